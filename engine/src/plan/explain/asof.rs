//! EXPLAIN of as-of joins.

use crate::plan::flow::{AsOfSpec, Emit};
use crate::plan::properties::Promise;

use super::said;

/// What an as-of join does.
pub(super) fn operator(spec: &AsOfSpec) -> String {
    let pairs = spec.on.iter().map(|(left, right)| format!("{} = {}", said(left), said(right)));
    let (left, right) = &spec.times;
    let time = format!("{} {} {}", said(left), spec.side.sign(), said(right));
    let conditions: Vec<String> = pairs.chain([time]).collect();
    let kind = if spec.keeps_unmatched { "Left as-of join" } else { "As-of join" };
    let nearest = if spec.side.is_back() { "latest" } else { "earliest" };
    let shown = match spec.emit {
        Emit::OnChange => "shown at once and corrected",
        Emit::AfterWatermark => "shown once at the watermark",
    };
    format!("{kind} with the {nearest} row on {}, {shown}", conditions.join(" and "))
}

/// What it remembers, and by what that is bounded.
pub(super) fn state(spec: &AsOfSpec, least: &dyn Fn(&[Promise]) -> String) -> Vec<String> {
    let left = match (spec.settles(), spec.side.is_back()) {
        (None, _) => "left rows, all of them: not bounded".to_owned(),
        (Some(promises), true) => format!("left rows, released by {}", least(&promises)),
        (Some(promises), false) => format!("left rows, released when their right row is by {}", least(&promises)),
    };
    let right = match (spec.releases(), spec.side.is_back()) {
        (None, _) => "right rows, all of them: not bounded".to_owned(),
        (Some(promises), true) => {
            format!("right rows, but for the latest of each key released by {}", least(&promises))
        }
        (Some(promises), false) => format!("right rows, released by {}", least(&promises)),
    };
    vec![left, right]
}
