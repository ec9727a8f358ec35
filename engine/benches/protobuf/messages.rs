//! Two of the messages: Nexmark's Bid (flat, 7 fields, about 140 bytes) and a ride booking (nested, 20 fields, about 260
//! bytes); as definitions for our plans, and as structs for prost.

use std::collections::HashMap;
use std::path::Path;

use prost::{Enumeration, Message};
use prost_reflect::{DescriptorPool, MessageDescriptor};
use prost_types::{Duration, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const PROTO: &str = r#"
syntax = "proto3";
package bench;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
message Bid {
  int64 auction = 1; int64 bidder = 2; int64 price = 3; string channel = 4; string url = 5;
  google.protobuf.Timestamp date_time = 6; string extra = 7;
}
enum Status { UNKNOWN = 0; CREATED = 1; DRIVER_FOUND = 2; COMPLETED = 3; CANCELLED_BY_CUSTOMER = 4; }
message Place { double lat = 1; double lon = 2; string name = 3; }
message Stop { Place place = 1; int32 minutes = 2; }
message Booking {
  string booking_id = 1; int64 customer_id = 2; google.protobuf.Timestamp event_timestamp = 3; Status status = 4;
  string service = 5; int64 fare = 6; double distance_km = 7; Place pickup = 8; Place dropoff = 9;
  optional int64 driver_id = 10; google.protobuf.Duration eta = 11; repeated string tags = 12; repeated Stop stops = 13;
  map<string, string> labels = 14; bool surge = 15; float rating = 16; uint32 seats = 17; sint64 adjustment = 18;
  google.protobuf.Timestamp updated_at = 19; optional string voucher = 20;
}
"#;

/// The definition of `bench.Bid`, `bench.Booking`, or one of `tests/protobuf/realistic.proto`.
pub(crate) fn descriptor(name: &str) -> MessageDescriptor {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bench.proto"), PROTO).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/protobuf");
    let mut compiler = protox::Compiler::new([folder.path(), &tests]).unwrap();
    compiler.include_imports(true).open_files(["bench.proto", "realistic.proto"]).unwrap();
    let pool: DescriptorPool = compiler.descriptor_pool();
    pool.get_message_by_name(name).unwrap()
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bid {
    #[prost(int64, tag = "1")]
    pub(crate) auction: i64,
    #[prost(int64, tag = "2")]
    pub(crate) bidder: i64,
    #[prost(int64, tag = "3")]
    pub(crate) price: i64,
    #[prost(string, tag = "4")]
    pub(crate) channel: String,
    #[prost(string, tag = "5")]
    pub(crate) url: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) date_time: Option<Timestamp>,
    #[prost(string, tag = "7")]
    pub(crate) extra: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    Unknown = 0,
    Created = 1,
    DriverFound = 2,
    Completed = 3,
    CancelledByCustomer = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Place {
    #[prost(double, tag = "1")]
    pub(crate) lat: f64,
    #[prost(double, tag = "2")]
    pub(crate) lon: f64,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stop {
    #[prost(message, optional, tag = "1")]
    pub(crate) place: Option<Place>,
    #[prost(int32, tag = "2")]
    pub(crate) minutes: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Booking {
    #[prost(string, tag = "1")]
    pub(crate) booking_id: String,
    #[prost(int64, tag = "2")]
    pub(crate) customer_id: i64,
    #[prost(message, optional, tag = "3")]
    pub(crate) event_timestamp: Option<Timestamp>,
    #[prost(enumeration = "Status", tag = "4")]
    pub(crate) status: i32,
    #[prost(string, tag = "5")]
    pub(crate) service: String,
    #[prost(int64, tag = "6")]
    pub(crate) fare: i64,
    #[prost(double, tag = "7")]
    pub(crate) distance_km: f64,
    #[prost(message, optional, tag = "8")]
    pub(crate) pickup: Option<Place>,
    #[prost(message, optional, tag = "9")]
    pub(crate) dropoff: Option<Place>,
    #[prost(int64, optional, tag = "10")]
    pub(crate) driver_id: Option<i64>,
    #[prost(message, optional, tag = "11")]
    pub(crate) eta: Option<Duration>,
    #[prost(string, repeated, tag = "12")]
    pub(crate) tags: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) stops: Vec<Stop>,
    #[prost(map = "string, string", tag = "14")]
    pub(crate) labels: HashMap<String, String>,
    #[prost(bool, tag = "15")]
    pub(crate) surge: bool,
    #[prost(float, tag = "16")]
    pub(crate) rating: f32,
    #[prost(uint32, tag = "17")]
    pub(crate) seats: u32,
    #[prost(sint64, tag = "18")]
    pub(crate) adjustment: i64,
    #[prost(message, optional, tag = "19")]
    pub(crate) updated_at: Option<Timestamp>,
    #[prost(string, optional, tag = "20")]
    pub(crate) voucher: Option<String>,
}

pub(crate) fn letters(rng: &mut SmallRng, length: usize) -> String {
    (0..length).map(|_| rng.random_range(b'a'..=b'z') as char).collect()
}

pub(crate) fn time(rng: &mut SmallRng) -> Option<Timestamp> {
    let seconds = 1_790_000_000 + rng.random_range(0..86_400);
    Some(Timestamp { seconds, nanos: rng.random_range(0..1000) * 1_000_000 })
}

/// So many of what `make` makes of a seed.
pub(crate) fn made<M>(seed: u64, count: usize, make: impl Fn(&mut SmallRng) -> M) -> Vec<M> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| make(&mut rng)).collect()
}

/// Random bids, the same ones each time.
pub(crate) fn bids(count: usize) -> Vec<Bid> {
    let channels = ["Google", "Facebook", "Baidu", "Apple"];
    made(1, count, |rng| Bid {
        auction: rng.random_range(1000..100_000),
        bidder: rng.random_range(1000..1_000_000),
        price: rng.random_range(100..10_000_000),
        channel: channels[rng.random_range(0..4)].to_owned(),
        url: format!("https://www.nexmark.com/{}/item.htm?query=1", letters(rng, 5)),
        date_time: time(rng),
        extra: {
            let length = rng.random_range(30..60);
            letters(rng, length)
        },
    })
}

fn place(rng: &mut SmallRng) -> Place {
    let length = rng.random_range(5..20);
    Place { lat: rng.random_range(-8.0..-6.0), lon: rng.random_range(105.0..108.0), name: letters(rng, length) }
}

/// Random bookings, the same ones each time.
pub(crate) fn bookings(count: usize) -> Vec<Booking> {
    made(2, count, |rng| {
        let tags = rng.random_range(0..4);
        let stops = if rng.random_bool(0.3) { rng.random_range(1..3) } else { 0 };
        let labels = rng.random_range(0..3);
        Booking {
            booking_id: format!("RB-{}", rng.random_range(100_000_000..999_999_999u32)),
            customer_id: rng.random_range(1_000_000..9_000_000),
            event_timestamp: time(rng),
            status: rng.random_range(1..5),
            service: ["GO_RIDE", "GO_CAR", "GO_FOOD"][rng.random_range(0..3)].to_owned(),
            fare: rng.random_range(5_000..200_000),
            distance_km: rng.random_range(0.5..30.0),
            pickup: Some(place(rng)),
            dropoff: Some(place(rng)),
            driver_id: rng.random_bool(0.8).then(|| rng.random_range(1_000_000..9_000_000)),
            eta: rng.random_bool(0.7).then(|| Duration { seconds: rng.random_range(60..3600), nanos: 0 }),
            tags: (0..tags).map(|_| letters(rng, 6)).collect(),
            stops: (0..stops).map(|n| Stop { place: Some(place(rng)), minutes: n + 1 }).collect(),
            labels: (0..labels).map(|n| (format!("label-{n}"), letters(rng, 8))).collect(),
            surge: rng.random_bool(0.2),
            rating: rng.random_range(1.0..5.0),
            seats: rng.random_range(1..5),
            adjustment: rng.random_range(-500..500),
            updated_at: time(rng),
            voucher: rng.random_bool(0.2).then(|| letters(rng, 10)),
        }
    })
}
