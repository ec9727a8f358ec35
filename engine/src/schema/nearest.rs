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

/// Edits between two words: characters that are added, left out or others, and neighbours that change places (the
/// optimal string alignment distance), three rows of the table at a time.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut last_but_one: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(last_but_one[j - 1] + 1);
            }
            row.push(least);
        }
        last_but_one = std::mem::replace(&mut last, row);
    }
    last[right.len()]
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
        assert_eq!(distance("coutn", "count"), 1);
        assert_eq!(distance("ab", "ba"), 1);
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
