//! The table, whoever changes it, and what was acknowledged to him.
//!
//! A history with a table has no zombies: the folder of the tables is one server's as long as that lives. What was written
//! outlives a server that is killed; so each life opens the same store anew.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

/// Its name. Its keys are those of the input's rows, and some more.
pub(super) const TABLE: &str = "prices";
const KEYS: i64 = 8;

/// Rows by key.
pub(super) type Rows = BTreeMap<i64, i64>;
/// A transaction: what it makes of some keys' rows; `None`: they go.
pub(super) type Change = BTreeMap<i64, Option<i64>>;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Prices {
    /// What the table must hold: all that was acknowledged, and nothing else.
    rows: Rows,
    /// Transactions that are still to come.
    left: u32,
    /// One that nobody has answered yet.
    unanswered: Option<Change>,
    /// No price is there twice.
    next: i64,
    acknowledged: u64,
}

fn applied(rows: &Rows, change: &Change) -> Rows {
    let mut rows = rows.clone();
    for (key, price) in change {
        match price {
            Some(price) => _ = rows.insert(*key, *price),
            None => _ = rows.remove(key),
        }
    }
    rows
}

impl Prices {
    pub(super) fn new(random: &mut StdRng) -> Self {
        Self { left: random.random_range(10..40), ..Self::default() }
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether nothing changes any more, and all is answered.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.unanswered.is_none()
    }

    /// A transaction that changes some rows: some come, some go, some are others.
    pub(super) fn change(&mut self, random: &mut StdRng) -> Option<Change> {
        self.left = self.left.checked_sub(1)?;
        let mut change = Change::new();
        for _ in 0..random.random_range(1..4) {
            let key = random.random_range(0..KEYS);
            self.next += 1;
            let goes = self.rows.contains_key(&key) && random.random_ratio(1, 3);
            change.insert(key, (!goes).then_some(self.next));
        }
        self.unanswered = Some(change.clone());
        Some(change)
    }

    /// The transaction is acknowledged.
    pub(super) fn acknowledge(&mut self) {
        if let Some(change) = self.unanswered.take() {
            self.rows = applied(&self.rows, &change);
            self.acknowledged += 1;
        }
    }

    /// What is read of the table. That is what was acknowledged, and a transaction that nobody answered wholly or not at all;
    /// now that is known.
    pub(super) fn read(&mut self, rows: &Rows) -> Result<(), String> {
        let with = self.unanswered.take().map(|change| applied(&self.rows, &change));
        if let Some(with) = with.filter(|with| with == rows) {
            self.rows = with;
        }
        if self.rows == *rows {
            Ok(())
        } else {
            Err(format!("the table has {rows:?}, and {:?} was acknowledged", self.rows))
        }
    }
}
