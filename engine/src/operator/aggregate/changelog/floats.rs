//! Aggregates of floats that are functions of a few sums: sum, avg, variances, covariances, correlation, regression.
//! The sums are exact, so the answer doesn't depend on the order of the rows; it is rounded when it is read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};

use super::super::accumulators::{Accumulators, counted, for_each_counted, gather};
use super::exact::ExactSum;
use crate::error::{Error, Result};
use crate::state::slots::Slot;

/// What is made of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Statistic {
    Sum,
    Avg,
    /// Of one argument: over n, or (`sample`) n − 1; and its root.
    Variance {
        sample: bool,
        root: bool,
    },
    /// Of two arguments.
    Covariance {
        sample: bool,
    },
    Correlation,
    Slope,
    Intercept,
    Count,
    R2,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
}

impl Statistic {
    /// DataFusion's function of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        use Statistic as S;
        Some(match name {
            "sum" => S::Sum,
            "avg" => S::Avg,
            "var" | "var_samp" => S::Variance { sample: true, root: false },
            "var_pop" => S::Variance { sample: false, root: false },
            "stddev" | "stddev_samp" => S::Variance { sample: true, root: true },
            "stddev_pop" => S::Variance { sample: false, root: true },
            "covar" | "covar_samp" => S::Covariance { sample: true },
            "covar_pop" => S::Covariance { sample: false },
            "corr" => S::Correlation,
            "regr_slope" => S::Slope,
            "regr_intercept" => S::Intercept,
            "regr_count" => S::Count,
            "regr_r2" => S::R2,
            "regr_avgx" => S::AvgX,
            "regr_avgy" => S::AvgY,
            "regr_sxx" => S::Sxx,
            "regr_syy" => S::Syy,
            "regr_sxy" => S::Sxy,
            _ => return None,
        })
    }

    /// How many arguments it has.
    pub(super) fn arguments(self) -> usize {
        match self {
            Statistic::Sum | Statistic::Avg | Statistic::Variance { .. } => 1,
            _ => 2,
        }
    }

    /// How many sums it needs: of x; of x and x²; of y, x, y², x² and xy.
    fn terms(self) -> usize {
        match self {
            Statistic::Sum | Statistic::Avg => 1,
            Statistic::Variance { .. } => 2,
            _ => 5,
        }
    }

    fn of(self, sums: &[ExactSum], count: i64) -> Option<f64> {
        let n = count as f64;
        if count <= 0 && self != Statistic::Count {
            return None;
        }
        match (self, sums) {
            (Statistic::Sum, [x]) => Some(x.value()),
            (Statistic::Avg, [x]) => Some(x.value() / n),
            (Statistic::Variance { sample, root }, [x, xx]) => {
                let squares = central(xx, x, x, n);
                let variance = over(squares, count, sample)?;
                Some(if root { variance.sqrt() } else { variance })
            }
            (_, [y, x, yy, xx, xy]) => {
                let (sxx, syy, sxy) = (|| central(xx, x, x, n), || central(yy, y, y, n), || central(xy, x, y, n));
                let some = |condition: bool, value: f64| condition.then_some(value);
                match self {
                    Statistic::Covariance { sample } => over(sxy(), count, sample),
                    Statistic::Correlation => match (x.value().is_finite(), y.value().is_finite()) {
                        (false, false) => Some(f64::NAN),
                        (true, true) => {
                            let (sxx, syy) = (sxx(), syy());
                            some(count > 1 && sxx > 0.0 && syy > 0.0, sxy() / (sxx.sqrt() * syy.sqrt()))
                        }
                        _ => None,
                    },
                    Statistic::Slope => some(count > 1 && sxx() != 0.0, sxy() / sxx()),
                    Statistic::Intercept => {
                        some(count > 1 && sxx() != 0.0, y.value() / n - sxy() / sxx() * (x.value() / n))
                    }
                    Statistic::R2 => {
                        let (sxx, syy, sxy) = (sxx(), syy(), sxy());
                        some(count > 1 && sxx != 0.0 && syy != 0.0, sxy * sxy / (sxx * syy))
                    }
                    Statistic::AvgX => Some(x.value() / n),
                    Statistic::AvgY => Some(y.value() / n),
                    Statistic::Sxx => Some(sxx()),
                    Statistic::Syy => Some(syy()),
                    Statistic::Sxy => Some(sxy()),
                    _ => Some(n),
                }
            }
            _ => None,
        }
    }
}

/// A sum of squares over the number of values, or (of a sample) one less.
fn over(squares: f64, count: i64, sample: bool) -> Option<f64> {
    let count = count - i64::from(sample);
    (count > 0).then(|| squares / count as f64)
}

/// Σab − Σa·Σb/n in twice a float's precision: what is left when the two are nearly the same is right.
fn central(ab: &ExactSum, a: &ExactSum, b: &ExactSum, n: f64) -> f64 {
    let ((ab, ab_rest), (a, a_rest), (b, b_rest)) = (ab.pair(), a.pair(), b.pair());
    if !a.is_finite() || !b.is_finite() {
        return f64::NAN;
    }
    let product = a * b;
    let product_rest = a.mul_add(b, -product) + (a * b_rest + b * a_rest);
    let mean = product / n;
    let mean_rest = ((-mean).mul_add(n, product) + product_rest) / n;
    (ab - mean) + (ab_rest - mean_rest)
}

/// A statistic of each slot.
pub(super) struct Statistics {
    statistic: Statistic,
    /// `terms` for each slot.
    sums: Vec<ExactSum>,
    counts: Vec<i64>,
    heap: usize,
}

impl Statistics {
    pub(super) fn new(statistic: Statistic) -> Self {
        Self { statistic, sums: Vec::new(), counts: Vec::new(), heap: 0 }
    }

    /// What [`Accumulators::state`] gives: the sums, as bytes (see [`ExactSum::write`]), and the number of rows.
    pub(super) fn state_fields(statistic: Statistic) -> Vec<FieldRef> {
        let sums = (0..statistic.terms()).map(|term| Field::new(format!("sum{term}"), DataType::Binary, true));
        sums.chain([Field::new("count", DataType::Int64, true)]).map(Arc::new).collect()
    }

    fn add(&mut self, slot: usize, count: i64, add: impl FnOnce(&mut [ExactSum])) {
        let terms = self.statistic.terms();
        let sums = &mut self.sums[slot * terms..][..terms];
        let before: usize = sums.iter().map(ExactSum::bytes).sum();
        add(sums);
        self.heap = self.heap + sums.iter().map(ExactSum::bytes).sum::<usize>() - before;
        self.counts[slot] += count;
    }

    fn sums(&self, slot: Slot) -> &[ExactSum] {
        let terms = self.statistic.terms();
        &self.sums[slot as usize * terms..][..terms]
    }
}

/// Adds a row to the sums.
fn add_row(sums: &mut [ExactSum], row: [f64; 2], weight: i64) {
    let [one, other] = row;
    match sums {
        [x] => x.add(one, weight),
        [x, xx] => {
            x.add(one, weight);
            xx.add_product(one, one, weight);
        }
        [y, x, yy, xx, xy] => {
            y.add(one, weight);
            x.add(other, weight);
            yy.add_product(one, one, weight);
            xx.add_product(other, other, weight);
            xy.add_product(one, other, weight);
        }
        _ => {}
    }
}

impl Accumulators for Statistics {
    fn grow(&mut self, bound: usize) {
        if self.counts.len() < bound {
            self.sums.resize_with(bound * self.statistic.terms(), ExactSum::default);
            self.counts.resize(bound, 0);
        }
    }

    fn update(&mut self, slots: &[Slot], arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<()> {
        self.change(slots, arguments, filter, &Int64Array::from_value(1, slots.len()))
    }

    fn change(
        &mut self,
        slots: &[Slot],
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
        weights: &Int64Array,
    ) -> Result<()> {
        let [one, rest @ ..] = arguments else { return Err(Error::internal("a statistic has arguments")) };
        let one = one.as_primitive::<Float64Type>();
        let other = rest.first().map_or(one, |other| other.as_primitive::<Float64Type>());
        let nulls = NullBuffer::union(one.nulls(), other.nulls());
        for_each_counted(slots, counted(nulls.as_ref(), filter).as_ref(), |row, slot| {
            let (values, weight) = ([one.value(row), other.value(row)], weights.value(row));
            self.add(slot, weight, |sums| add_row(sums, values, weight));
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], state: &[ArrayRef]) -> Result<()> {
        let Some((counts, sums)) = state.split_last() else {
            return Err(Error::internal("a statistic has a state"));
        };
        let counts = counts.as_primitive::<Int64Type>();
        for (row, slot) in slots.iter().enumerate() {
            let read = sums.iter().map(|sum| ExactSum::read(sum.as_binary::<i32>().value(row)));
            let read: Option<Vec<ExactSum>> = read.collect();
            let others = read.ok_or_else(|| Error::invalid("the state of a sum of floats cannot be read"))?;
            self.add(*slot as usize, counts.value(row), |sums| {
                sums.iter_mut().zip(&others).for_each(|(sum, other)| sum.merge(other));
            });
        }
        Ok(())
    }

    fn evaluate(&mut self, slots: &[Slot]) -> Result<ArrayRef> {
        let results = slots.iter().map(|slot| self.statistic.of(self.sums(*slot), self.counts[*slot as usize]));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn state(&mut self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let mut bytes = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for term in 0..self.statistic.terms() {
            let mut sums = BinaryBuilder::new();
            for slot in slots {
                bytes.clear();
                self.sums(*slot)[term].write(&mut bytes);
                sums.append_value(&bytes);
            }
            columns.push(Arc::new(sums.finish()));
        }
        columns.push(Arc::new(Int64Array::from(gather(&self.counts, slots))));
        Ok(columns)
    }

    fn release(&mut self, slots: &[Slot]) {
        for slot in slots {
            let count = self.counts[*slot as usize];
            self.add(*slot as usize, -count, |sums| sums.fill_with(ExactSum::default));
        }
    }

    fn bytes(&self) -> usize {
        self.heap + self.sums.capacity() * size_of::<ExactSum>() + self.counts.capacity() * size_of::<i64>()
    }
}
