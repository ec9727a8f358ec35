//! The usual way for the three realistic messages: Arrow's builders take the fields of prost's structs.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, DurationMicrosecondBuilder,
    Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListArray, ListBuilder, MapBuilder, StringBuilder,
    StringViewBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Fields};

use crate::builders::micros;
use crate::realistic::{Address, Card, Health, Item, Method, Money, Order, Payment, State, Telemetry};

/// A struct of arrays; `present` says where it is one.
fn row(columns: Vec<(&str, ArrayRef)>, present: Option<Vec<bool>>) -> ArrayRef {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.into_iter().map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).unzip();
    Arc::new(StructArray::new(Fields::from(fields), arrays, present.map(NullBuffer::from)))
}

/// A list of what the values are, by how many each row has.
fn list(values: ArrayRef, lengths: Vec<usize>) -> ArrayRef {
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), values, None))
}

fn done(builder: &mut impl ArrayBuilder) -> ArrayRef {
    builder.finish()
}

fn number(value: u64) -> i128 {
    i128::from(value)
}

#[derive(Default)]
struct MoneyBuilders {
    currency_code: StringViewBuilder,
    units: Int64Builder,
    nanos: Int32Builder,
    present: Vec<bool>,
}

impl MoneyBuilders {
    fn append(&mut self, money: Option<&Money>) {
        self.currency_code.append_value(money.map_or("", |money| &money.currency_code));
        self.units.append_value(money.map_or(0, |money| money.units));
        self.nanos.append_value(money.map_or(0, |money| money.nanos));
        self.present.push(money.is_some());
    }

    fn finish(mut self) -> ArrayRef {
        let columns = vec![
            ("currency_code", done(&mut self.currency_code)),
            ("units", done(&mut self.units)),
            ("nanos", done(&mut self.nanos)),
        ];
        row(columns, Some(self.present))
    }
}

#[derive(Default)]
struct CardBuilders {
    network: StringViewBuilder,
    last_digits: StringViewBuilder,
    expiry_month: Int64Builder,
    expiry_year: Int64Builder,
    is_three_d_secure: BooleanBuilder,
    present: Vec<bool>,
}

impl CardBuilders {
    fn append(&mut self, card: Option<&Card>) {
        self.network.append_value(card.map_or("", |card| &card.network));
        self.last_digits.append_value(card.map_or("", |card| &card.last_digits));
        self.expiry_month.append_value(card.map_or(0, |card| card.expiry_month.into()));
        self.expiry_year.append_value(card.map_or(0, |card| card.expiry_year.into()));
        self.is_three_d_secure.append_value(card.is_some_and(|card| card.is_three_d_secure));
        self.present.push(card.is_some());
    }

    fn finish(mut self) -> ArrayRef {
        let columns = vec![
            ("network", done(&mut self.network)),
            ("last_digits", done(&mut self.last_digits)),
            ("expiry_month", done(&mut self.expiry_month)),
            ("expiry_year", done(&mut self.expiry_year)),
            ("is_three_d_secure", done(&mut self.is_three_d_secure)),
        ];
        row(columns, Some(self.present))
    }
}

/// Builders of Payment's columns.
#[derive(Default)]
pub(crate) struct PaymentBuilders {
    payment_id: StringViewBuilder,
    merchant_id: StringViewBuilder,
    account: Decimal128Builder,
    state: StringViewBuilder,
    amount: MoneyBuilders,
    fee: MoneyBuilders,
    created_at: TimestampMicrosecondBuilder,
    settled_at: TimestampMicrosecondBuilder,
    card: CardBuilders,
    wallet: StringViewBuilder,
    iban: StringViewBuilder,
    reference: StringViewBuilder,
    bank_transfer: Vec<bool>,
    decline_reason: StringViewBuilder,
    metadata: Option<MapBuilder<StringBuilder, StringViewBuilder>>,
}

impl PaymentBuilders {
    pub(crate) fn append(&mut self, payment: &Payment) {
        self.payment_id.append_value(&payment.payment_id);
        self.merchant_id.append_value(&payment.merchant_id);
        self.account.append_value(number(payment.account));
        match State::try_from(payment.state) {
            Ok(State::Unspecified) => self.state.append_value("STATE_UNSPECIFIED"),
            Ok(State::Authorised) => self.state.append_value("STATE_AUTHORISED"),
            Ok(State::Captured) => self.state.append_value("STATE_CAPTURED"),
            Ok(State::Refunded) => self.state.append_value("STATE_REFUNDED"),
            Ok(State::Declined) => self.state.append_value("STATE_DECLINED"),
            Err(_) => self.state.append_value(payment.state.to_string()),
        }
        self.amount.append(payment.amount.as_ref());
        self.fee.append(payment.fee.as_ref());
        self.created_at.append_option(payment.created_at.as_ref().map(micros));
        self.settled_at.append_option(payment.settled_at.as_ref().map(micros));
        let (mut card, mut wallet, mut transfer) = (None, None, None);
        match &payment.method {
            Some(Method::Card(one)) => card = Some(one),
            Some(Method::Wallet(one)) => wallet = Some(one),
            Some(Method::BankTransfer(one)) => transfer = Some(one),
            None => {}
        }
        self.card.append(card);
        self.wallet.append_option(wallet);
        self.iban.append_value(transfer.map_or("", |transfer| &transfer.iban));
        self.reference.append_option(transfer.and_then(|transfer| transfer.reference.as_ref()));
        self.bank_transfer.push(transfer.is_some());
        self.decline_reason.append_option(payment.decline_reason.as_ref());
        let metadata =
            self.metadata.get_or_insert_with(|| MapBuilder::new(None, StringBuilder::new(), StringViewBuilder::new()));
        for (key, value) in &payment.metadata {
            metadata.keys().append_value(key);
            metadata.values().append_value(value);
        }
        metadata.append(true).unwrap();
    }

    pub(crate) fn finish(mut self) -> Vec<ArrayRef> {
        let transfer = vec![("iban", done(&mut self.iban)), ("reference", done(&mut self.reference))];
        vec![
            done(&mut self.payment_id),
            done(&mut self.merchant_id),
            done(&mut self.account),
            done(&mut self.state),
            self.amount.finish(),
            self.fee.finish(),
            done(&mut self.created_at),
            done(&mut self.settled_at),
            self.card.finish(),
            done(&mut self.wallet),
            row(transfer, Some(self.bank_transfer)),
            done(&mut self.decline_reason),
            self.metadata.map(|mut metadata| done(&mut metadata)).unwrap(),
        ]
    }
}

#[derive(Default)]
struct AddressBuilders {
    lines: ListBuilder<StringViewBuilder>,
    city: StringViewBuilder,
    postal_code: StringViewBuilder,
    country: StringViewBuilder,
    latitude: Float64Builder,
    longitude: Float64Builder,
    present: Vec<bool>,
}

impl AddressBuilders {
    fn append(&mut self, address: Option<&Address>) {
        for line in address.iter().flat_map(|address| &address.lines) {
            self.lines.values().append_value(line);
        }
        self.lines.append(true);
        self.city.append_value(address.map_or("", |address| &address.city));
        self.postal_code.append_value(address.map_or("", |address| &address.postal_code));
        self.country.append_value(address.map_or("", |address| &address.country));
        self.latitude.append_option(address.and_then(|address| address.latitude));
        self.longitude.append_option(address.and_then(|address| address.longitude));
        self.present.push(address.is_some());
    }

    fn finish(mut self) -> ArrayRef {
        let columns = vec![
            ("lines", done(&mut self.lines)),
            ("city", done(&mut self.city)),
            ("postal_code", done(&mut self.postal_code)),
            ("country", done(&mut self.country)),
            ("latitude", done(&mut self.latitude)),
            ("longitude", done(&mut self.longitude)),
        ];
        row(columns, Some(self.present))
    }
}

#[derive(Default)]
struct ItemBuilders {
    sku: StringViewBuilder,
    quantity: Int32Builder,
    unit_price: Float64Builder,
    options: ListBuilder<StringViewBuilder>,
    code: StringViewBuilder,
    percent: Float32Builder,
    discounts: Vec<usize>,
    lengths: Vec<usize>,
}

impl ItemBuilders {
    fn append(&mut self, items: &[Item]) {
        for item in items {
            self.sku.append_value(&item.sku);
            self.quantity.append_value(item.quantity);
            self.unit_price.append_value(item.unit_price);
            for option in &item.options {
                self.options.values().append_value(option);
            }
            self.options.append(true);
            for discount in &item.discounts {
                self.code.append_value(&discount.code);
                self.percent.append_value(discount.percent);
            }
            self.discounts.push(item.discounts.len());
        }
        self.lengths.push(items.len());
    }

    fn finish(mut self) -> ArrayRef {
        let discount = row(vec![("code", done(&mut self.code)), ("percent", done(&mut self.percent))], None);
        let columns = vec![
            ("sku", done(&mut self.sku)),
            ("quantity", done(&mut self.quantity)),
            ("unit_price", done(&mut self.unit_price)),
            ("options", done(&mut self.options)),
            ("discounts", list(discount, self.discounts)),
        ];
        list(row(columns, None), self.lengths)
    }
}

/// Builders of Order's columns.
#[derive(Default)]
pub(crate) struct OrderBuilders {
    order_id: Decimal128Builder,
    customer: StringViewBuilder,
    items: ItemBuilders,
    shipping: AddressBuilders,
    billing: AddressBuilders,
    ordered_at: TimestampMicrosecondBuilder,
    promised_within: DurationMicrosecondBuilder,
    coupon_ids: ListBuilder<Int64Builder>,
    is_gift: BooleanBuilder,
    note: StringViewBuilder,
}

impl OrderBuilders {
    pub(crate) fn append(&mut self, order: &Order) {
        self.order_id.append_value(number(order.order_id));
        self.customer.append_value(&order.customer);
        self.items.append(&order.items);
        self.shipping.append(order.shipping.as_ref());
        self.billing.append(order.billing.as_ref());
        self.ordered_at.append_option(order.ordered_at.as_ref().map(micros));
        let promised = order.promised_within.as_ref();
        self.promised_within
            .append_option(promised.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000));
        self.coupon_ids.values().append_slice(&order.coupon_ids);
        self.coupon_ids.append(true);
        self.is_gift.append_value(order.is_gift);
        self.note.append_option(order.note.as_ref());
    }

    pub(crate) fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            done(&mut self.order_id),
            done(&mut self.customer),
            self.items.finish(),
            self.shipping.finish(),
            self.billing.finish(),
            done(&mut self.ordered_at),
            done(&mut self.promised_within),
            done(&mut self.coupon_ids),
            done(&mut self.is_gift),
            done(&mut self.note),
        ]
    }
}

fn append_health(builder: &mut StringViewBuilder, number: i32) {
    match Health::try_from(number) {
        Ok(Health::Unknown) => builder.append_value("HEALTH_UNKNOWN"),
        Ok(Health::Good) => builder.append_value("HEALTH_GOOD"),
        Ok(Health::Degraded) => builder.append_value("HEALTH_DEGRADED"),
        Ok(Health::Lost) => builder.append_value("HEALTH_LOST"),
        Err(_) => builder.append_value(number.to_string()),
    }
}

/// Builders of Telemetry's columns.
pub(crate) struct TelemetryBuilders {
    device: StringViewBuilder,
    sequence: Decimal128Builder,
    at: TimestampMicrosecondBuilder,
    gauges: MapBuilder<StringBuilder, Float64Builder>,
    counters: MapBuilder<Int32Builder, Decimal128Builder>,
    acceleration: ListBuilder<Int32Builder>,
    temperature: ListBuilder<Float32Builder>,
    registers: ListBuilder<Int64Builder>,
    uptime_ms: Int64Builder,
    firmware_hash: BinaryBuilder,
    health: StringViewBuilder,
    recent_health: ListBuilder<StringViewBuilder>,
    battery: Float32Builder,
}

impl Default for TelemetryBuilders {
    fn default() -> Self {
        Self {
            device: StringViewBuilder::new(),
            sequence: Decimal128Builder::new(),
            at: TimestampMicrosecondBuilder::new(),
            gauges: MapBuilder::new(None, StringBuilder::new(), Float64Builder::new()),
            counters: MapBuilder::new(None, Int32Builder::new(), Decimal128Builder::new()),
            acceleration: ListBuilder::default(),
            temperature: ListBuilder::default(),
            registers: ListBuilder::default(),
            uptime_ms: Int64Builder::new(),
            firmware_hash: BinaryBuilder::new(),
            health: StringViewBuilder::new(),
            recent_health: ListBuilder::default(),
            battery: Float32Builder::new(),
        }
    }
}

impl TelemetryBuilders {
    pub(crate) fn append(&mut self, measured: &Telemetry) {
        self.device.append_value(&measured.device);
        self.sequence.append_value(number(measured.sequence));
        self.at.append_option(measured.at.as_ref().map(micros));
        for (name, value) in &measured.gauges {
            self.gauges.keys().append_value(name);
            self.gauges.values().append_value(*value);
        }
        self.gauges.append(true).unwrap();
        for (name, value) in &measured.counters {
            self.counters.keys().append_value(*name);
            self.counters.values().append_value(number(*value));
        }
        self.counters.append(true).unwrap();
        self.acceleration.values().append_slice(&measured.acceleration);
        self.acceleration.append(true);
        self.temperature.values().append_slice(&measured.temperature);
        self.temperature.append(true);
        measured.registers.iter().for_each(|value| self.registers.values().append_value((*value).into()));
        self.registers.append(true);
        self.uptime_ms.append_value(measured.uptime_ms);
        self.firmware_hash.append_value(&measured.firmware_hash);
        append_health(&mut self.health, measured.health);
        measured.recent_health.iter().for_each(|number| append_health(self.recent_health.values(), *number));
        self.recent_health.append(true);
        self.battery.append_option(measured.battery);
    }

    pub(crate) fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            done(&mut self.device),
            done(&mut self.sequence),
            done(&mut self.at),
            done(&mut self.gauges),
            done(&mut self.counters),
            done(&mut self.acceleration),
            done(&mut self.temperature),
            done(&mut self.registers),
            done(&mut self.uptime_ms),
            done(&mut self.firmware_hash),
            done(&mut self.health),
            done(&mut self.recent_health),
            done(&mut self.battery),
        ]
    }
}
