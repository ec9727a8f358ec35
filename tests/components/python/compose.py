"""Reads a compose file and says what is wrong with it: python.sh compose.py FILE. Prints the services' names."""

import os
import sys

import yaml


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, as compose itself has it."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(twice)} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def faults(compose, folder):
    """One sentence per fault."""
    services = compose["services"]
    volumes = compose.get("volumes") or {}
    used = set()
    for name, service in services.items():
        build = service.get("build")
        if build:
            context = os.path.join(folder, build["context"])
            if not os.path.isfile(os.path.join(context, build["dockerfile"])):
                yield f"{name}: no file {build['dockerfile']} in {build['context']}"
        else:
            tag = service["image"].rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{name}: the image {service['image']} has no fixed version"
        for port in service.get("ports", []):
            if not isinstance(port, str):
                yield f"{name}: port {port!r} is not quoted"
            elif not port.startswith("127.0.0.1:"):
                yield f"{name}: port {port} is published beyond loopback"
        for key, value in (service.get("environment") or {}).items():
            if not isinstance(value, str):
                yield f"{name}: {key} is {value!r}, not a text: quote it"
        needed = service.get("depends_on") or {}
        for other, condition in needed.items():
            if other not in services:
                yield f"{name}: depends on {other}, which is not there"
            elif condition["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                yield f"{name}: waits for {other} to be healthy, which has no health check"
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            used.add(source)
            if not source.startswith((".", "/")) and source not in volumes:
                yield f"{name}: the volume {source} is not declared"
    for volume in volumes:
        if volume not in used:
            yield f"the volume {volume} is used by nobody"


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        compose = yaml.load(file, Loader)
    found = list(faults(compose, os.path.dirname(path)))
    for fault in found:
        print(fault, file=sys.stderr)
    print(" ".join(sorted(compose["services"])))
    sys.exit(1 if found else 0)


main()
