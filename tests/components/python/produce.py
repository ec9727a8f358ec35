"""Writes seeded bookings to a topic, out of order within a bound, and says what every window must come to.

The expectation is computed here, from the numbers that go into the messages: it knows nothing of Rondel. Fares are
multiples of a quarter, so that sums of floats are exact in any order. After the bookings, one record for each partition
lies two hours later: it moves the watermark past every window that the expectation names.

It prints one JSON object: {"tumble": [row…], "hop": [row…]}, a row being [window_start, window_end, zone, service_type,
bookings, with_driver, fares, meters], times in microseconds, in order.
"""

import argparse
import collections
import json
import random
import sys

import confluent_kafka

import messages

START = 1_767_225_600 * messages.MICROS  # 2026-01-01 00:00 UTC
SPAN = 3600 * messages.MICROS
MINUTE = 60 * messages.MICROS
SERVICES = ["BIKE", "CAR", "FOOD", "PARCEL"]
# A zone with no name is the default of proto3: such a message carries no bytes for it.
ZONES = ["north", "south", "east", "west", "center", "harbour", "Zürich-鶴", ""]


def bookings(seed, records, bound):
    """(time, zone, service, has driver, fare in quarters, meters), in the order of sending."""
    generator = random.Random(seed)
    for index in range(records):
        late = int(generator.random() * bound)
        yield (
            START + index * SPAN // records - late,
            generator.choice(ZONES),
            generator.randrange(4),
            generator.random() < 0.7,
            generator.randrange(8, 400),
            generator.randrange(300, 30_000),
        )


def expectation(windows):
    return [[*window, *sums[:2], sums[2] / 4, sums[3]] for window, sums in sorted(windows.items())]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", required=True)
    arguments.add_argument("--descriptor", required=True)
    arguments.add_argument("--records", type=int, required=True)
    arguments.add_argument("--partitions", type=int, required=True)
    arguments.add_argument("--seed", type=int, required=True)
    arguments.add_argument("--bound-ms", type=int, default=10_000)
    options = arguments.parse_args()

    booking_class = messages.message_class(options.descriptor, "rondel.tour.Booking")
    service_enum = booking_class.DESCRIPTOR.fields_by_name["service_type"].enum_type
    service_numbers = [service_enum.values_by_name[name].number for name in SERVICES]
    failed = []
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
        }
    )

    def acknowledged(error, _record):
        if error is not None:
            failed.append(str(error))

    def send(index, message, partition):
        while True:
            try:
                producer.produce(
                    options.topic,
                    message.SerializeToString(),
                    key=message.order_number,
                    partition=partition,
                    on_delivery=acknowledged,
                )
                break
            except BufferError:
                producer.poll(0.1)
        if index % 1000 == 0:
            producer.poll(0)

    tumble = collections.defaultdict(lambda: [0, 0, 0, 0])
    hop = collections.defaultdict(lambda: [0, 0, 0, 0])
    partitions = random.Random(options.seed + 1)
    rows = bookings(options.seed, options.records, options.bound_ms * 1000)
    for index, (time, zone, service, driver, quarters, meters) in enumerate(rows):
        booking = booking_class(
            order_number=f"order-{index}",
            customer_id=index % 10_007,
            service_type=service_numbers[service],
            status=index % 5,
            fare=quarters / 4,
            distance_meters=meters,
        )
        if driver:
            booking.driver_id = index % 503
        booking.pickup.zone = zone
        booking.pickup.latitude = index % 90
        booking.dropoff.zone = ZONES[index % len(ZONES)]
        if index % 7 == 0:
            booking.vouchers.extend(["welcome", f"v{index % 13}"])
        if index % 11 == 0:
            booking.labels["app"] = "4.2"
        messages.set_time(booking.event_timestamp, time)
        send(index, booking, partitions.randrange(options.partitions))

        minute = time - time % MINUTE
        key = (zone, SERVICES[service])
        for sums in [tumble[(minute, minute + MINUTE, *key)]] + [
            hop[(first, first + 5 * MINUTE, *key)] for first in range(minute - 4 * MINUTE, minute + 1, MINUTE)
        ]:
            sums[0] += 1
            sums[1] += driver
            sums[2] += quarters
            sums[3] += meters

    for partition in range(options.partitions):
        booking = booking_class(order_number=f"closing-{partition}")
        messages.set_time(booking.event_timestamp, START + SPAN + 7200 * messages.MICROS)
        send(0, booking, partition)
    left = producer.flush(60)
    if left or failed:
        sys.exit(f"{left} records were not acknowledged, {len(failed)} failed: {failed[:3]}")
    json.dump({"tumble": expectation(tumble), "hop": expectation(hop)}, sys.stdout)


main()
