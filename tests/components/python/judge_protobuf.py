"""Random protobuf messages by the official library, and its judgement of what became of them.

make: writes messages, each as a byte that says whether the official library reads it (1) or refuses it (0), its length in
four bytes, and its bytes. With --mutated, bytes are changed, left out or cut off, and another message may follow.

set: writes a FileDescriptorSet that is a text as bytes.

compare: reads two such files and fails unless their messages are equal, field by field; unknown fields aside.
"""

import argparse
import random
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import FieldDescriptor as F


LETTERS = "abZ äß√🚕"


class Source:
    def __init__(self, seed, pool):
        self.random = random.Random(seed)
        self.pool = pool

    def fill(self, message, depth):
        kind = message.DESCRIPTOR.full_name
        rand = self.random
        if kind == "google.protobuf.Timestamp":
            message.seconds = rand.randint(-62135596800, 253402300799)
            message.nanos = rand.randrange(1_000_000) * 1000
            return
        if kind == "google.protobuf.Duration":
            message.seconds = rand.randint(-315576000000, 315576000000)
            sign = (message.seconds > 0) - (message.seconds < 0)
            message.nanos = rand.randrange(1_000_000) * 1000 * sign
            return
        if kind == "google.protobuf.Value":
            # One kind is always set, and JSON has no infinity.
            which = rand.randrange(4 if depth > 3 else 6)
            if which == 0:
                message.null_value = 0
            elif which == 1:
                message.number_value = rand.randrange(-8000, 8000) / 8
            elif which == 2:
                message.string_value = self.text()
            elif which == 3:
                message.bool_value = rand.random() < 0.5
            elif which == 4:
                message.struct_value.SetInParent()
                self.fill(message.struct_value, depth + 1)
            else:
                message.list_value.SetInParent()
                self.fill(message.list_value, depth + 1)
            return
        fields = list(message.DESCRIPTOR.fields)
        rand.shuffle(fields)
        for field in fields:
            if not field.is_required and rand.random() < (0.4 if depth == 0 else 0.6):
                continue
            if depth > 3 and field.message_type is not None and not field.is_required:
                continue
            self.field(message, field, depth)
        for extension in self.pool.FindAllExtensions(message.DESCRIPTOR):
            if rand.random() < 0.5:
                if extension.is_repeated and extension.message_type is not None:
                    for _ in range(rand.randrange(3)):
                        self.fill(message.Extensions[extension].add(), depth + 1)
                elif extension.is_repeated:
                    message.Extensions[extension].extend(self.value(extension) for _ in range(rand.randrange(3)))
                elif extension.message_type is not None:
                    message.Extensions[extension].SetInParent()
                    self.fill(message.Extensions[extension], depth + 1)
                else:
                    message.Extensions[extension] = self.value(extension)

    def field(self, message, field, depth):
        rand = self.random
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            of_key, of_value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            map_field = getattr(message, field.name)
            for _ in range(rand.randrange(3)):
                key = self.value(of_key)
                if of_value.message_type is not None:
                    self.fill(map_field[key], depth + 1)
                else:
                    map_field[key] = self.value(of_value)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(rand.randrange(4)):
                if entry is not None:
                    self.fill(items.add(), depth + 1)
                else:
                    items.append(self.value(field))
        elif entry is not None:
            getattr(message, field.name).SetInParent()
            self.fill(getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, self.value(field))

    def text(self):
        return "".join(self.random.choice(LETTERS) for _ in range(self.random.randrange(20)))

    def value(self, field):
        rand = self.random
        edge = rand.random() < 0.2
        kind = field.type
        if kind == F.TYPE_BOOL:
            return rand.random() < 0.5
        if kind == F.TYPE_STRING:
            return self.text()
        if kind == F.TYPE_BYTES:
            return rand.randbytes(rand.randrange(20))
        if kind == F.TYPE_ENUM:
            numbers = [value.number for value in field.enum_type.values]
            unknown = edge and not field.enum_type.is_closed
            return rand.randint(-(2**31), 2**31 - 1) if unknown else rand.choice(numbers)
        if kind in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
            return rand.choice([0.0, -0.0, float("inf"), 1.5e-30]) if edge else struct.unpack("f", struct.pack("f", rand.gauss(0, 1e6)))[0]
        bits = 32 if kind in (F.TYPE_INT32, F.TYPE_UINT32, F.TYPE_SINT32, F.TYPE_FIXED32, F.TYPE_SFIXED32) else 64
        if kind in (F.TYPE_UINT32, F.TYPE_UINT64, F.TYPE_FIXED32, F.TYPE_FIXED64):
            return 2**bits - 1 if edge else rand.randrange(2**bits) >> rand.randrange(bits)
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return rand.choice([least, most, 0]) if edge else rand.randint(least, most) >> rand.randrange(bits)


def in_range(message):
    """Whether every Timestamp and Duration is one that its definition allows."""
    kind = message.DESCRIPTOR.full_name
    if kind == "google.protobuf.Timestamp":
        return -62135596800 <= message.seconds <= 253402300799 and 0 <= message.nanos < 10**9
    if kind == "google.protobuf.Duration":
        same = message.seconds == 0 or message.nanos == 0 or (message.seconds < 0) == (message.nanos < 0)
        return abs(message.seconds) <= 315576000000 and abs(message.nanos) < 10**9 and same
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                if not all(in_range(item) for item in value.values()):
                    return False
        elif field.is_repeated:
            if not all(in_range(item) for item in value):
                return False
        elif not in_range(value):
            return False
    return True


def reads(message_class, record):
    message = message_class()
    try:
        message.ParseFromString(record)
    except Exception:  # The library has several ways to refuse.
        return False
    try:
        return message.IsInitialized() and in_range(message)
    except UnicodeDecodeError:
        # Of proto2 it looks at a text only when it is asked for.
        return False


def mutated(rand, record):
    record = bytearray(record)
    for _ in range(rand.randint(1, 3)):
        if not record:
            break
        place = rand.randrange(len(record))
        which = rand.randrange(4)
        if which == 0:
            del record[place:]
        elif which == 1:
            del record[place]
        elif which == 2:
            record[place] ^= 1 << rand.randrange(8)
        else:
            record[place] = rand.randrange(256)
    return bytes(record)


def records(path):
    with open(path, "rb") as file:
        contents = file.read()
    place = 0
    while place < len(contents):
        good, length = struct.unpack_from("<BI", contents, place)
        yield good, contents[place + 5 : place + 5 + length]
        place += 5 + length


def load(descriptor, name):
    files = descriptor_pb2.FileDescriptorSet()
    with open(descriptor, "rb") as file:
        files.ParseFromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool, message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=["make", "compare", "set"])
    arguments.add_argument("--descriptor")
    arguments.add_argument("--message")
    arguments.add_argument("--count", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--mutated", action="store_true")
    arguments.add_argument("files", nargs="+")
    options = arguments.parse_args()
    if options.what == "set":
        with open(options.files[0]) as text, open(options.files[1], "wb") as out:
            out.write(text_format.Parse(text.read(), descriptor_pb2.FileDescriptorSet()).SerializeToString())
        return
    pool, message_class = load(options.descriptor, options.message)
    if options.what == "make":
        source = Source(options.seed, pool)
        with open(options.files[0], "wb") as out:
            for _ in range(options.count):
                message = message_class()
                source.fill(message, 0)
                # Else the order of a map's entries differs from run to run.
                record = message.SerializeToString(deterministic=True)
                if options.mutated:
                    record = mutated(source.random, record)
                    if source.random.random() < 0.25:
                        # What comes again is merged, and may put right what is wrong.
                        message = message_class()
                        source.fill(message, 0)
                        record += message.SerializeToString(deterministic=True)
                out.write(struct.pack("<BI", reads(message_class, record), len(record)))
                out.write(record)
        return
    ones, others = (list(records(path)) for path in options.files)
    if len(ones) != len(others):
        sys.exit(f"{len(ones)} messages became {len(others)}")
    for number, ((_, one), (_, other)) in enumerate(zip(ones, others)):
        left, right = message_class.FromString(one), message_class.FromString(other)
        left.DiscardUnknownFields()
        right.DiscardUnknownFields()
        if left != right:
            sys.exit(f"message {number} is another:\n{left}\n--- and\n{right}")
    print(len(ones))


if __name__ == "__main__":
    main()
