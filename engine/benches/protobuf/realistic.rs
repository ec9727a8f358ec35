//! Three of the messages of `tests/protobuf/realistic.proto`: a payment, an order, a measurement; as structs for prost, and
//! at random.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};
use prost_types::{Duration, Timestamp};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::messages::{letters, made, time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum State {
    Unspecified = 0,
    Authorised = 1,
    Captured = 2,
    Refunded = 3,
    Declined = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Money {
    #[prost(string, tag = "1")]
    pub(crate) currency_code: String,
    #[prost(int64, tag = "2")]
    pub(crate) units: i64,
    #[prost(sint32, tag = "3")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Card {
    #[prost(string, tag = "1")]
    pub(crate) network: String,
    #[prost(string, tag = "2")]
    pub(crate) last_digits: String,
    #[prost(uint32, tag = "3")]
    pub(crate) expiry_month: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) expiry_year: u32,
    #[prost(bool, tag = "5")]
    pub(crate) is_three_d_secure: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BankTransfer {
    #[prost(string, tag = "1")]
    pub(crate) iban: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) reference: Option<String>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Method {
    #[prost(message, tag = "9")]
    Card(Card),
    #[prost(string, tag = "10")]
    Wallet(String),
    #[prost(message, tag = "11")]
    BankTransfer(BankTransfer),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Payment {
    #[prost(string, tag = "1")]
    pub(crate) payment_id: String,
    #[prost(string, tag = "2")]
    pub(crate) merchant_id: String,
    #[prost(fixed64, tag = "3")]
    pub(crate) account: u64,
    #[prost(enumeration = "State", tag = "4")]
    pub(crate) state: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) amount: Option<Money>,
    #[prost(message, optional, tag = "6")]
    pub(crate) fee: Option<Money>,
    #[prost(message, optional, tag = "7")]
    pub(crate) created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "8")]
    pub(crate) settled_at: Option<Timestamp>,
    #[prost(oneof = "Method", tags = "9, 10, 11")]
    pub(crate) method: Option<Method>,
    #[prost(message, optional, tag = "12")]
    pub(crate) decline_reason: Option<String>,
    #[prost(map = "string, string", tag = "13")]
    pub(crate) metadata: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Discount {
    #[prost(string, tag = "1")]
    pub(crate) code: String,
    #[prost(float, tag = "2")]
    pub(crate) percent: f32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) sku: String,
    #[prost(int32, tag = "2")]
    pub(crate) quantity: i32,
    #[prost(double, tag = "3")]
    pub(crate) unit_price: f64,
    #[prost(string, repeated, tag = "4")]
    pub(crate) options: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) discounts: Vec<Discount>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Address {
    #[prost(string, repeated, tag = "1")]
    pub(crate) lines: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) city: String,
    #[prost(string, tag = "3")]
    pub(crate) postal_code: String,
    #[prost(string, tag = "4")]
    pub(crate) country: String,
    #[prost(double, optional, tag = "5")]
    pub(crate) latitude: Option<f64>,
    #[prost(double, optional, tag = "6")]
    pub(crate) longitude: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    #[prost(uint64, tag = "1")]
    pub(crate) order_id: u64,
    #[prost(string, tag = "2")]
    pub(crate) customer: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) items: Vec<Item>,
    #[prost(message, optional, tag = "4")]
    pub(crate) shipping: Option<Address>,
    #[prost(message, optional, tag = "5")]
    pub(crate) billing: Option<Address>,
    #[prost(message, optional, tag = "6")]
    pub(crate) ordered_at: Option<Timestamp>,
    #[prost(message, optional, tag = "7")]
    pub(crate) promised_within: Option<Duration>,
    #[prost(int64, repeated, tag = "8")]
    pub(crate) coupon_ids: Vec<i64>,
    #[prost(bool, tag = "9")]
    pub(crate) is_gift: bool,
    #[prost(string, optional, tag = "10")]
    pub(crate) note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Health {
    Unknown = 0,
    Good = 1,
    Degraded = 2,
    Lost = 7,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Telemetry {
    #[prost(string, tag = "1")]
    pub(crate) device: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) sequence: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) at: Option<Timestamp>,
    #[prost(map = "string, double", tag = "4")]
    pub(crate) gauges: HashMap<String, f64>,
    #[prost(map = "int32, uint64", tag = "5")]
    pub(crate) counters: HashMap<i32, u64>,
    #[prost(sint32, repeated, tag = "6")]
    pub(crate) acceleration: Vec<i32>,
    #[prost(float, repeated, tag = "7")]
    pub(crate) temperature: Vec<f32>,
    #[prost(fixed32, repeated, tag = "8")]
    pub(crate) registers: Vec<u32>,
    #[prost(sfixed64, tag = "9")]
    pub(crate) uptime_ms: i64,
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) firmware_hash: Vec<u8>,
    #[prost(enumeration = "Health", tag = "11")]
    pub(crate) health: i32,
    #[prost(enumeration = "Health", repeated, tag = "12")]
    pub(crate) recent_health: Vec<i32>,
    #[prost(message, optional, tag = "13")]
    pub(crate) battery: Option<f32>,
}

fn money(rng: &mut SmallRng) -> Option<Money> {
    let currency_code = ["EUR", "IDR", "USD"][rng.random_range(0..3)].to_owned();
    Some(Money { currency_code, units: rng.random_range(1..500_000), nanos: rng.random_range(0..100) * 10_000_000 })
}

/// Random payments, the same ones each time.
pub(crate) fn payments(count: usize) -> Vec<Payment> {
    made(3, count, |rng| Payment {
        payment_id: format!("pay_{}", letters(rng, 20)),
        merchant_id: format!("m-{}", rng.random_range(1000..99_999)),
        account: rng.random(),
        state: rng.random_range(1..5),
        amount: money(rng),
        fee: money(rng),
        created_at: time(rng),
        settled_at: if rng.random_bool(0.8) { time(rng) } else { None },
        method: Some(match rng.random_range(0..3) {
            0 => Method::Wallet(letters(rng, 8)),
            1 => Method::BankTransfer(BankTransfer {
                iban: format!("DE{}", letters(rng, 20)),
                reference: rng.random_bool(0.5).then(|| letters(rng, 15)),
            }),
            _ => Method::Card(Card {
                network: "VISA".to_owned(),
                last_digits: rng.random_range(1000..9999).to_string(),
                expiry_month: rng.random_range(1..13),
                expiry_year: rng.random_range(2026..2032),
                is_three_d_secure: rng.random_bool(0.7),
            }),
        }),
        decline_reason: rng.random_bool(0.1).then(|| "insufficient funds".to_owned()),
        metadata: (0..rng.random_range(0..3)).map(|n| (format!("key_{n}"), letters(rng, 10))).collect(),
    })
}

fn address(rng: &mut SmallRng) -> Option<Address> {
    Some(Address {
        lines: (0..rng.random_range(1..3)).map(|_| letters(rng, 18)).collect(),
        city: letters(rng, 9),
        postal_code: rng.random_range(10_000..99_999).to_string(),
        country: "DE".to_owned(),
        latitude: rng.random_bool(0.5).then(|| rng.random_range(47.0..55.0)),
        longitude: rng.random_bool(0.5).then(|| rng.random_range(6.0..15.0)),
    })
}

/// Random orders, the same ones each time.
pub(crate) fn orders(count: usize) -> Vec<Order> {
    made(4, count, |rng| Order {
        order_id: rng.random_range(1..1 << 40),
        customer: letters(rng, 16),
        items: (0..rng.random_range(1..5))
            .map(|_| Item {
                sku: format!("SKU-{}", rng.random_range(10_000..99_999)),
                quantity: rng.random_range(1..10),
                unit_price: rng.random_range(1.0..100.0),
                options: (0..rng.random_range(0..3)).map(|_| letters(rng, 7)).collect(),
                discounts: (0..rng.random_range(0..2))
                    .map(|_| Discount { code: letters(rng, 6), percent: 5.0 })
                    .collect(),
            })
            .collect(),
        shipping: address(rng),
        billing: if rng.random_bool(0.3) { address(rng) } else { None },
        ordered_at: time(rng),
        promised_within: Some(Duration { seconds: rng.random_range(3600..172_800), nanos: 0 }),
        coupon_ids: (0..rng.random_range(0..3)).map(|_| rng.random_range(1..1_000_000)).collect(),
        is_gift: rng.random_bool(0.1),
        note: rng.random_bool(0.2).then(|| letters(rng, 40)),
    })
}

/// Random measurements, the same ones each time.
pub(crate) fn measurements(count: usize) -> Vec<Telemetry> {
    made(5, count, |rng| Telemetry {
        device: format!("device-{}", rng.random_range(1..10_000)),
        sequence: rng.random(),
        at: time(rng),
        gauges: (0..4).map(|n| (format!("gauge_{n}"), rng.random_range(0.0..100.0))).collect(),
        counters: (0..4).map(|n| (n, rng.random_range(0..1 << 30))).collect(),
        acceleration: (0..12).map(|_| rng.random_range(-2000..2000)).collect(),
        temperature: (0..8).map(|_| rng.random_range(10.0..40.0)).collect(),
        registers: (0..8).map(|_| rng.random()).collect(),
        uptime_ms: rng.random_range(0..1 << 40),
        firmware_hash: (0..20).map(|_| rng.random::<u8>()).collect(),
        health: 1,
        recent_health: (0..5).map(|_| [1, 1, 2, 7][rng.random_range(0..4)]).collect(),
        battery: rng.random_bool(0.9).then(|| rng.random_range(0.0..1.0)),
    })
}
