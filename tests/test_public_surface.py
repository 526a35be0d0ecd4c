"""The public names and their signatures are those of public_surface.json.

After a change that is meant, write the file anew and commit it: python tests/test_public_surface.py
"""

import inspect
import json
from pathlib import Path

import dgtalker as dg

LIST = Path(__file__).with_name("public_surface.json")


def describe_surface() -> dict[str, str]:
    """{"Head.frame": "(self, *, yaw: ...", "Head.name": "property"} of everything public."""
    surface = {}
    for name in dg.__all__:
        value = getattr(dg, name)
        surface[name] = describe_value(value)
        if inspect.isclass(value) and not issubclass(value, Exception):
            for member in sorted({*vars(value), *value.__annotations__}):
                if not member.startswith("_"):
                    surface[f"{name}.{member}"] = describe_value(getattr(value, member, None))
    return surface


def describe_value(value) -> str:
    if inspect.isclass(value) and issubclass(value, Exception):
        return "exception"
    return str(inspect.signature(value)) if callable(value) else "property" if isinstance(value, property) else "field"


def test_public_names_and_signatures_are_those_of_the_list():
    listed, found = json.loads(LIST.read_text(encoding="utf-8")), describe_surface()
    changed = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    told = "\n".join(f"{name}: {listed.get(name, 'not listed')} -> {found.get(name, 'gone')}" for name in changed)
    assert not changed, f"If this is meant, run: python tests/test_public_surface.py\n{told}"


if __name__ == "__main__":
    LIST.write_text(json.dumps(describe_surface(), indent=1) + "\n", encoding="utf-8")
