//! The usual way to write columns: a prost struct is made of each row, and encodes itself.

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::{
    DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use prost::Message;
use prost_types::{Duration, Timestamp};

use crate::messages::{Bid, Booking, Place, Status, Stop};

fn time(micros: i64) -> Timestamp {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    Timestamp { seconds, nanos: micros as i32 * 1000 }
}

fn times(array: &ArrayRef) -> impl Fn(usize) -> Option<Timestamp> + '_ {
    let times = array.as_primitive::<TimestampMicrosecondType>();
    move |row| times.is_valid(row).then(|| time(times.value(row)))
}

fn texts(array: &ArrayRef) -> impl Fn(usize) -> String + '_ {
    let texts: &StringViewArray = array.as_string_view();
    move |row| texts.value(row).to_owned()
}

fn longs(array: &ArrayRef) -> impl Fn(usize) -> i64 + '_ {
    let longs = array.as_primitive::<Int64Type>();
    move |row| longs.value(row)
}

pub(crate) fn bids(batch: &RecordBatch, out: &mut Vec<u8>) {
    let column = |place: usize| batch.column(place);
    let (auction, bidder, price) = (longs(column(0)), longs(column(1)), longs(column(2)));
    let (channel, url, date_time, extra) = (texts(column(3)), texts(column(4)), times(column(5)), texts(column(6)));
    for row in 0..batch.num_rows() {
        let bid = Bid {
            auction: auction(row),
            bidder: bidder(row),
            price: price(row),
            channel: channel(row),
            url: url(row),
            date_time: date_time(row),
            extra: extra(row),
        };
        bid.encode(out).unwrap();
    }
}

fn places(array: &ArrayRef) -> impl Fn(usize) -> Option<Place> + '_ {
    let places = array.as_struct();
    let (lat, lon) = (places.column(0).as_primitive::<Float64Type>(), places.column(1).as_primitive::<Float64Type>());
    let name = texts(places.column(2));
    move |row| places.is_valid(row).then(|| Place { lat: lat.value(row), lon: lon.value(row), name: name(row) })
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

pub(crate) fn bookings(batch: &RecordBatch, out: &mut Vec<u8>) {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let (booking_id, customer_id, fare) =
        (texts(column("booking_id")), longs(column("customer_id")), longs(column("fare")));
    let (event_timestamp, updated_at) = (times(column("event_timestamp")), times(column("updated_at")));
    let (service, seats, adjustment) = (texts(column("service")), longs(column("seats")), longs(column("adjustment")));
    let status = column("status").as_string_view();
    let distance_km = column("distance_km").as_primitive::<Float64Type>();
    let (pickup, dropoff) = (places(column("pickup")), places(column("dropoff")));
    let driver_id = column("driver_id").as_primitive::<Int64Type>();
    let eta = column("eta").as_primitive::<DurationMicrosecondType>();
    let tags = column("tags").as_list::<i32>();
    let tag = texts(tags.values());
    let stops = column("stops").as_list::<i32>();
    let place = places(stops.values().as_struct().column(0));
    let minutes = stops.values().as_struct().column(1).as_primitive::<Int32Type>();
    let labels = column("labels").as_map();
    let (key, value) = (labels.keys().as_string::<i32>(), texts(labels.values()));
    let surge = column("surge").as_boolean();
    let rating = column("rating").as_primitive::<Float32Type>();
    let voucher = column("voucher").as_string_view();
    for row in 0..batch.num_rows() {
        let booking = Booking {
            booking_id: booking_id(row),
            customer_id: customer_id(row),
            event_timestamp: event_timestamp(row),
            status: match status.value(row) {
                "CREATED" => Status::Created,
                "DRIVER_FOUND" => Status::DriverFound,
                "COMPLETED" => Status::Completed,
                "CANCELLED_BY_CUSTOMER" => Status::CancelledByCustomer,
                _ => Status::Unknown,
            }
            .into(),
            service: service(row),
            fare: fare(row),
            distance_km: distance_km.value(row),
            pickup: pickup(row),
            dropoff: dropoff(row),
            driver_id: driver_id.is_valid(row).then(|| driver_id.value(row)),
            eta: eta.is_valid(row).then(|| Duration {
                seconds: eta.value(row) / 1_000_000,
                nanos: (eta.value(row) % 1_000_000) as i32 * 1000,
            }),
            tags: range(tags.offsets(), row).map(&tag).collect(),
            stops: range(stops.offsets(), row)
                .map(|element| Stop { place: place(element), minutes: minutes.value(element) })
                .collect(),
            labels: range(labels.offsets(), row)
                .map(|element| (key.value(element).to_owned(), value(element)))
                .collect(),
            surge: surge.value(row),
            rating: rating.value(row),
            seats: seats(row) as u32,
            adjustment: adjustment(row),
            updated_at: updated_at(row),
            voucher: voucher.is_valid(row).then(|| voucher.value(row).to_owned()),
        };
        booking.encode(out).unwrap();
    }
}
