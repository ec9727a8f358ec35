"""Protobuf messages by the official library, from a FileDescriptorSet: no code is generated."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

MICROS = 1_000_000


def message_class(path, name):
    """The class of message `name` of the FileDescriptorSet in file `path`."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as file:
        files.ParseFromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def set_time(timestamp, micros):
    """Sets a google.protobuf.Timestamp from microseconds since 1970."""
    timestamp.seconds, rest = divmod(micros, MICROS)
    timestamp.nanos = rest * 1000


def plain(message):
    """What JSON can say of a message: timestamps and durations in microseconds, enums by name, absent fields as null."""
    kind = message.DESCRIPTOR.full_name
    if kind in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return message.seconds * MICROS + message.nanos // 1000
    return {field.name: plain_field(message, field) for field in message.DESCRIPTOR.fields}


def plain_field(message, field):
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        of = entry.fields_by_name["value"]
        return {str(key): plain_value(of, value[key]) for key in value}
    if field.is_repeated:
        return [plain_value(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return plain_value(field, value)


def plain_value(field, value):
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        name = field.enum_type.values_by_number.get(value)
        return name.name if name else value
    return value.hex() if isinstance(value, bytes) else value
