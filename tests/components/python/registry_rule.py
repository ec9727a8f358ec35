"""Sets how a subject's versions have to fit each other: registry_rule.py REGISTRY SUBJECT LEVEL. Prints what the registry has."""

import sys

from confluent_kafka.schema_registry import SchemaRegistryClient


def main():
    registry, subject, level = sys.argv[1:]
    client = SchemaRegistryClient({"url": registry})
    client.set_compatibility(subject, level)
    print(client.get_compatibility(subject))


if __name__ == "__main__":
    main()
