//! "Did you mean": the names nearest to one that does not exist.

/// At most three of `names` that resemble `wanted`, best first: the same but for case, the same last segment
/// (`Booking` for `acme.Booking`), or few edits away.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted_low = wanted.to_lowercase();
    let wanted_last = last_segment(&wanted_low);
    let mut ranked: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let low = name.to_lowercase();
            let last = last_segment(&low);
            let edits = distance(&wanted_low, &low).min(distance(wanted_last, last) + 1);
            let bearable = 1 + wanted_last.chars().count().max(last.chars().count()) / 3;
            (edits <= bearable).then_some((edits, name))
        })
        .collect();
    ranked.sort();
    // What is nearly as good as the best; the others would only confuse.
    let best = ranked.first().map_or(0, |(edits, _)| *edits);
    ranked.retain(|(edits, _)| *edits <= best + 1);
    ranked.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

fn last_segment(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Levenshtein's distance in characters, one row of the table at a time.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (b, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            before = (diagonal + usize::from(a != *b)).min(above + 1).min(before + 1);
            diagonal = above;
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("booking", "bookings"), 1);
    }

    #[test]
    fn finds_the_names_a_user_may_have_meant() {
        let names = ["acme.Booking", "acme.BookingLeg", "acme.Driver", "google.protobuf.Timestamp"];
        assert_eq!(nearest("Booking", names), ["acme.Booking"]);
        assert_eq!(nearest("acme.booking", names)[0], "acme.Booking");
        assert_eq!(nearest("acme.Bookng", names)[0], "acme.Booking");
        assert!(nearest("zzz", names).is_empty());
    }
}
