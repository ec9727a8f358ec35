//! Which parts of a column are read: of a message inside of a message, the fields that a query names.

use std::collections::BTreeMap;

/// What is read of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    /// All of it.
    Whole,
    /// These fields of a row, and nothing else.
    Fields(BTreeMap<String, Leaves>),
}

impl Leaves {
    /// Nothing, or no more than whether it is there.
    pub fn none() -> Self {
        Self::Fields(BTreeMap::new())
    }

    /// Reads the part at this path as well; an empty one is the whole.
    pub fn add(&mut self, path: &[String]) {
        match (self, path.split_first()) {
            (Self::Whole, _) => {}
            (Self::Fields(fields), Some((first, rest))) => {
                fields.entry(first.clone()).or_insert_with(Self::none).add(rest);
            }
            (whole, None) => *whole = Self::Whole,
        }
    }

    /// Reads what the other reads as well.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Fields(own), Self::Fields(others)) => {
                for (name, leaves) in others {
                    own.entry(name.clone()).or_insert_with(Self::none).merge(leaves);
                }
            }
            (own, Self::Whole) => *own = Self::Whole,
            (Self::Whole, _) => {}
        }
    }

    /// What is read of a field; `None`: nothing.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Whole => Some(self),
            Self::Fields(fields) => fields.get(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn paths_add_up() {
        let mut leaves = Leaves::none();
        leaves.add(&path("a.b"));
        leaves.add(&path("c"));
        assert_eq!(leaves.field("c"), Some(&Leaves::Whole));
        assert!(leaves.field("a").unwrap().field("b").is_some());
        assert_eq!((leaves.field("x"), leaves.field("a").unwrap().field("x")), (None, None));
        let mut other = Leaves::none();
        other.add(&path("a"));
        other.merge(&leaves);
        assert_eq!(other.field("a"), Some(&Leaves::Whole));
        other.add(&[]);
        assert_eq!(other, Leaves::Whole);
        other.merge(&leaves);
        assert_eq!(other.field("anything"), Some(&Leaves::Whole));
    }
}
