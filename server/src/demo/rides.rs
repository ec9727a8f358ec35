//! The demo's rides: bookings and their payments, as record batches of the tour's messages.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use rondel_engine::time::Clock;

/// Zones of the town, with the middle of each.
const ZONES: [(&str, f64, f64); 6] = [
    ("airport", -6.1256, 106.6558),
    ("harbour", -6.1045, 106.8863),
    ("market", -6.1442, 106.8129),
    ("museum", -6.1764, 106.8222),
    ("stadium", -6.2185, 106.8026),
    ("university", -6.3606, 106.8272),
];
const SERVICES: [&str; 4] = ["BIKE", "CAR", "FOOD", "PARCEL"];
const METHODS: [&str; 3] = ["card", "cash", "wallet"];
/// Records come late by up to so much, so that order is something to watch.
const DISORDER_MICROS: i64 = 3_000_000;
/// A ride is paid so much later at most.
const PAID_WITHIN_MICROS: i64 = 8_000_000;

/// Makes rides from a seed and the clock.
pub(super) struct Rides {
    clock: Arc<dyn Clock>,
    /// xorshift64*: the demo needs variety, not statistics.
    random: u64,
    next_order: u64,
    unpaid: Vec<Unpaid>,
}

struct Unpaid {
    order_number: String,
    customer: i64,
    amount: f64,
    pay_at: i64,
}

impl Rides {
    pub(super) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, random: seed | 1, next_order: 1, unpaid: Vec::new() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    /// New bookings: columns of `rondel.tour.Booking`.
    pub(super) fn bookings(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let now = self.clock.now_micros();
        let mut order_number = Vec::with_capacity(rows);
        let (mut customer, mut driver) = (Vec::new(), Vec::new());
        let (mut service, mut status) = (Vec::new(), Vec::new());
        let (mut fare, mut distance) = (Vec::new(), Vec::new());
        let (mut pickup, mut dropoff) = (Vec::new(), Vec::new());
        let mut time = Vec::new();
        for _ in 0..rows {
            let number = format!("R-{:06}", self.next_order);
            self.next_order += 1;
            let completed = self.below(10) < 7;
            let meters = 800 + self.below(19_000) as i32;
            let price = (2.0 + f64::from(meters) * 0.0011 * 100.0).round() / 100.0 + 2.0;
            let customer_id = 1_000 + self.below(500) as i64;
            let at = now - self.below(DISORDER_MICROS as u64) as i64;
            if completed {
                let pay_at = now + self.below(PAID_WITHIN_MICROS as u64) as i64;
                let unpaid = Unpaid { order_number: number.clone(), customer: customer_id, amount: price, pay_at };
                self.unpaid.push(unpaid);
            }
            order_number.push(number);
            customer.push(customer_id);
            driver.push(completed.then(|| 50 + self.below(200) as i64));
            service.push(SERVICES[self.below(SERVICES.len() as u64) as usize]);
            status.push(if completed { "COMPLETED" } else { "CANCELLED" });
            fare.push(price);
            distance.push(meters);
            pickup.push(self.below(ZONES.len() as u64) as usize);
            dropoff.push(self.below(ZONES.len() as u64) as usize);
            time.push(at);
        }
        RecordBatch::try_from_iter_with_nullable([
            ("order_number", Arc::new(StringArray::from(order_number)) as ArrayRef, false),
            ("customer_id", Arc::new(Int64Array::from(customer)), false),
            ("driver_id", Arc::new(Int64Array::from(driver)), true),
            ("service_type", Arc::new(StringArray::from(service)), false),
            ("status", Arc::new(StringArray::from(status)), false),
            ("fare", Arc::new(Float64Array::from(fare)), false),
            ("distance_meters", Arc::new(Int32Array::from(distance)), false),
            ("pickup", places(&pickup), false),
            ("dropoff", places(&dropoff), false),
            ("event_timestamp", Arc::new(TimestampMicrosecondArray::from(time)), false),
        ])
    }

    /// The payments that are due now: columns of `rondel.tour.Payment`.
    pub(super) fn payments(&mut self) -> Result<RecordBatch, ArrowError> {
        let now = self.clock.now_micros();
        let due: Vec<Unpaid>;
        (due, self.unpaid) = std::mem::take(&mut self.unpaid).into_iter().partition(|ride| ride.pay_at <= now);
        let method: Vec<&str> = due.iter().map(|_| METHODS[self.below(METHODS.len() as u64) as usize]).collect();
        RecordBatch::try_from_iter_with_nullable([
            (
                "order_number",
                Arc::new(StringArray::from_iter_values(due.iter().map(|ride| &ride.order_number))) as ArrayRef,
                false,
            ),
            ("customer_id", Arc::new(Int64Array::from_iter_values(due.iter().map(|ride| ride.customer))), false),
            ("method", Arc::new(StringArray::from(method)), false),
            ("amount", Arc::new(Float64Array::from_iter_values(due.iter().map(|ride| ride.amount))), false),
            (
                "event_timestamp",
                Arc::new(TimestampMicrosecondArray::from_iter_values(due.iter().map(|ride| ride.pay_at))),
                false,
            ),
        ])
    }
}

fn places(zones: &[usize]) -> ArrayRef {
    let fields = Fields::from(vec![
        Field::new("latitude", DataType::Float64, false),
        Field::new("longitude", DataType::Float64, false),
        Field::new("zone", DataType::Utf8, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values(zones.iter().map(|zone| ZONES[*zone].1))),
        Arc::new(Float64Array::from_iter_values(zones.iter().map(|zone| ZONES[*zone].2))),
        Arc::new(StringArray::from_iter_values(zones.iter().map(|zone| ZONES[*zone].0))),
    ];
    Arc::new(StructArray::new(fields, columns, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rondel_engine::time::ManualClock;

    #[test]
    fn completed_rides_are_paid_once() {
        let clock = ManualClock::at(1_000_000_000);
        let mut rides = Rides::new(Arc::new(clock.clone()), 42);
        let bookings = rides.bookings(200).unwrap();
        assert_eq!(bookings.num_rows(), 200);
        let waiting = rides.unpaid.len();
        assert!((100..180).contains(&waiting), "{waiting}");
        clock.advance_micros(PAID_WITHIN_MICROS);
        assert_eq!(rides.payments().unwrap().num_rows(), waiting);
        assert_eq!(rides.payments().unwrap().num_rows(), 0);
    }
}
