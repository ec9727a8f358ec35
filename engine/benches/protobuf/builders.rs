//! The usual way, as the yardstick: prost decodes a record into a struct, and Arrow's builders take its fields.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, DurationMicrosecondBuilder, Float32Builder, Float64Builder, Int32Builder, Int64Builder,
    ListArray, ListBuilder, MapBuilder, StringBuilder, StringViewBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use prost_types::Timestamp;

use crate::messages::{Bid, Booking, Place, Status};

pub(crate) fn micros(time: &Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

/// Builders of Bid's columns.
pub(crate) struct BidBuilders {
    longs: [Int64Builder; 3],
    channel: StringViewBuilder,
    url: StringViewBuilder,
    date_time: TimestampMicrosecondBuilder,
    extra: StringViewBuilder,
}

impl BidBuilders {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            longs: std::array::from_fn(|_| Int64Builder::with_capacity(rows)),
            channel: StringViewBuilder::with_capacity(rows),
            url: StringViewBuilder::with_capacity(rows),
            date_time: TimestampMicrosecondBuilder::with_capacity(rows),
            extra: StringViewBuilder::with_capacity(rows),
        }
    }

    pub(crate) fn append(&mut self, bid: &Bid) {
        self.longs[0].append_value(bid.auction);
        self.longs[1].append_value(bid.bidder);
        self.longs[2].append_value(bid.price);
        self.channel.append_value(&bid.channel);
        self.url.append_value(&bid.url);
        self.date_time.append_option(bid.date_time.as_ref().map(micros));
        self.extra.append_value(&bid.extra);
    }

    pub(crate) fn finish(mut self) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = self.longs.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        arrays.push(Arc::new(self.channel.finish()));
        arrays.push(Arc::new(self.url.finish()));
        arrays.push(Arc::new(self.date_time.finish()));
        arrays.push(Arc::new(self.extra.finish()));
        arrays
    }
}

#[derive(Default)]
struct PlaceBuilders {
    lat: Float64Builder,
    lon: Float64Builder,
    name: StringViewBuilder,
    present: Vec<bool>,
}

impl PlaceBuilders {
    fn append(&mut self, place: Option<&Place>) {
        self.lat.append_value(place.map_or(0.0, |place| place.lat));
        self.lon.append_value(place.map_or(0.0, |place| place.lon));
        self.name.append_value(place.map_or("", |place| &place.name));
        self.present.push(place.is_some());
    }

    fn finish(mut self) -> ArrayRef {
        let fields = Fields::from(vec![
            Field::new("lat", DataType::Float64, true),
            Field::new("lon", DataType::Float64, true),
            Field::new("name", DataType::Utf8View, true),
        ]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.lat.finish()), Arc::new(self.lon.finish()), Arc::new(self.name.finish())];
        Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(self.present))))
    }
}

/// Builders of Booking's columns.
pub(crate) struct BookingBuilders {
    booking_id: StringViewBuilder,
    customer_id: Int64Builder,
    event_timestamp: TimestampMicrosecondBuilder,
    status: StringViewBuilder,
    service: StringViewBuilder,
    fare: Int64Builder,
    distance_km: Float64Builder,
    pickup: PlaceBuilders,
    dropoff: PlaceBuilders,
    driver_id: Int64Builder,
    eta: DurationMicrosecondBuilder,
    tags: ListBuilder<StringViewBuilder>,
    stop_place: PlaceBuilders,
    stop_minutes: Int32Builder,
    stops: Vec<usize>,
    labels: MapBuilder<StringBuilder, StringViewBuilder>,
    surge: BooleanBuilder,
    rating: Float32Builder,
    seats: Int64Builder,
    adjustment: Int64Builder,
    updated_at: TimestampMicrosecondBuilder,
    voucher: StringViewBuilder,
}

impl BookingBuilders {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            booking_id: StringViewBuilder::with_capacity(rows),
            customer_id: Int64Builder::with_capacity(rows),
            event_timestamp: TimestampMicrosecondBuilder::with_capacity(rows),
            status: StringViewBuilder::with_capacity(rows),
            service: StringViewBuilder::with_capacity(rows),
            fare: Int64Builder::with_capacity(rows),
            distance_km: Float64Builder::with_capacity(rows),
            pickup: PlaceBuilders::default(),
            dropoff: PlaceBuilders::default(),
            driver_id: Int64Builder::with_capacity(rows),
            eta: DurationMicrosecondBuilder::with_capacity(rows),
            tags: ListBuilder::new(StringViewBuilder::new()),
            stop_place: PlaceBuilders::default(),
            stop_minutes: Int32Builder::new(),
            stops: Vec::with_capacity(rows),
            labels: MapBuilder::new(None, StringBuilder::new(), StringViewBuilder::new()),
            surge: BooleanBuilder::with_capacity(rows),
            rating: Float32Builder::with_capacity(rows),
            seats: Int64Builder::with_capacity(rows),
            adjustment: Int64Builder::with_capacity(rows),
            updated_at: TimestampMicrosecondBuilder::with_capacity(rows),
            voucher: StringViewBuilder::with_capacity(rows),
        }
    }

    pub(crate) fn append(&mut self, booking: &Booking) {
        self.booking_id.append_value(&booking.booking_id);
        self.customer_id.append_value(booking.customer_id);
        self.event_timestamp.append_option(booking.event_timestamp.as_ref().map(micros));
        match Status::try_from(booking.status) {
            Ok(Status::Unknown) => self.status.append_value("UNKNOWN"),
            Ok(Status::Created) => self.status.append_value("CREATED"),
            Ok(Status::DriverFound) => self.status.append_value("DRIVER_FOUND"),
            Ok(Status::Completed) => self.status.append_value("COMPLETED"),
            Ok(Status::CancelledByCustomer) => self.status.append_value("CANCELLED_BY_CUSTOMER"),
            Err(_) => self.status.append_value(booking.status.to_string()),
        }
        self.service.append_value(&booking.service);
        self.fare.append_value(booking.fare);
        self.distance_km.append_value(booking.distance_km);
        self.pickup.append(booking.pickup.as_ref());
        self.dropoff.append(booking.dropoff.as_ref());
        self.driver_id.append_option(booking.driver_id);
        let eta = booking.eta.as_ref();
        self.eta.append_option(eta.map(|eta| eta.seconds * 1_000_000 + i64::from(eta.nanos) / 1000));
        for tag in &booking.tags {
            self.tags.values().append_value(tag);
        }
        self.tags.append(true);
        for stop in &booking.stops {
            self.stop_place.append(stop.place.as_ref());
            self.stop_minutes.append_value(stop.minutes);
        }
        self.stops.push(booking.stops.len());
        for (key, value) in &booking.labels {
            self.labels.keys().append_value(key);
            self.labels.values().append_value(value);
        }
        self.labels.append(true).unwrap();
        self.surge.append_value(booking.surge);
        self.rating.append_value(booking.rating);
        self.seats.append_value(booking.seats.into());
        self.adjustment.append_value(booking.adjustment);
        self.updated_at.append_option(booking.updated_at.as_ref().map(micros));
        self.voucher.append_option(booking.voucher.as_ref());
    }

    pub(crate) fn finish(mut self) -> Vec<ArrayRef> {
        let place = self.stop_place.finish();
        let fields = Fields::from(vec![
            Field::new("place", place.data_type().clone(), true),
            Field::new("minutes", DataType::Int32, true),
        ]);
        let stops = StructArray::new(fields.clone(), vec![place, Arc::new(self.stop_minutes.finish())], None);
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        vec![
            Arc::new(self.booking_id.finish()),
            Arc::new(self.customer_id.finish()),
            Arc::new(self.event_timestamp.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.service.finish()),
            Arc::new(self.fare.finish()),
            Arc::new(self.distance_km.finish()),
            self.pickup.finish(),
            self.dropoff.finish(),
            Arc::new(self.driver_id.finish()),
            Arc::new(self.eta.finish()),
            Arc::new(self.tags.finish()),
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(self.stops), Arc::new(stops), None)),
            Arc::new(self.labels.finish()),
            Arc::new(self.surge.finish()),
            Arc::new(self.rating.finish()),
            Arc::new(self.seats.finish()),
            Arc::new(self.adjustment.finish()),
            Arc::new(self.updated_at.finish()),
            Arc::new(self.voucher.finish()),
        ]
    }
}
