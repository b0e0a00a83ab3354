#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes constraints.json: texts that Python's re and jsonschema judge, for constraint_test.

regexes: {pattern, texts: [[text, matches as a whole]]}, random expressions with texts near them.
schemas: {schema, texts: [[text, valid, canonical]]}, random schemas with values drawn from them and damaged ones. Valid
texts that are canonical (members in the schema's order, nothing that it does not speak of) must be accepted, and
whatever is accepted must be valid.
"""
import copy
import json
import os
import random
import re

import jsonschema

ALPHABET = ["a", "b", "c", "0", "7", "_", " ", "é", "-", "\n", "😀"]


def regex(rng, depth):
    kind = rng.randrange(9 if depth else 5)
    if kind <= 1:
        return re.escape(rng.choice(ALPHABET)) if rng.random() < 0.7 else rng.choice(["ab", "é0", "c7_"])
    if kind == 2:
        return rng.choice([r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "."])
    if kind == 3:
        return "[" + rng.choice(["", "^"]) + rng.choice(["a-c", "0-9_", "é-ö7", r"\da", "ab", " -~"]) + "]"
    if kind == 4:
        return rng.choice(["a", "b|", "(?:|c)"]) if rng.random() < 0.2 else "c"
    if kind == 5:
        return "(" + regex(rng, depth - 1) + "|" + regex(rng, depth - 1) + ")"
    if kind == 6:
        return "(?:" + regex(rng, depth - 1) + ")" + rng.choice(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"])
    return regex(rng, depth - 1) + regex(rng, depth - 1)


def near(rng, text):
    text = list(text)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(text) + 1)
        text[at:at + rng.randrange(2)] = [rng.choice(ALPHABET)] * rng.randrange(3)
    return "".join(text)


def regexes(rng, count):
    cases = []
    while len(cases) < count:
        pattern = regex(rng, 3)
        compiled = re.compile(pattern, re.ASCII)
        # Texts: short random ones, those that match as seeds for ones near them.
        texts = {"".join(rng.choice(ALPHABET) for _ in range(rng.randrange(6))) for _ in range(300)}
        matching = [t for t in sorted(texts) if compiled.fullmatch(t)]
        chosen = matching[:8] + [near(rng, rng.choice(matching)) for _ in range(8) if matching]
        chosen += rng.sample(sorted(texts), 4)
        cases.append({"pattern": pattern, "texts": [[t, bool(compiled.fullmatch(t))] for t in sorted(set(chosen))]})
    return cases


def schema(rng, depth):
    kind = rng.randrange(10 if depth else 6)
    if kind == 0:
        low = rng.choice([None, -1000, -17, 0, 3, 100])
        high = rng.choice([None, -5, 0, 9, 10, 255, 10000])
        result = {"type": "integer"}
        if low is not None:
            result[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if high is not None and (low is None or high > low + 2):
            result[rng.choice(["maximum", "exclusiveMaximum"])] = high
        return result
    if kind == 1:
        result = {"type": "number"}
        if rng.random() < 0.6:
            result["minimum"] = rng.choice([-20, -1, 0, 1])
            result["maximum"] = result["minimum"] + rng.choice([0, 1, 2, 90])
        return result
    if kind == 2:
        result = {"type": "string"}
        if rng.random() < 0.4:
            result["minLength"] = rng.randrange(3)
            result["maxLength"] = result["minLength"] + rng.randrange(4)
        elif rng.random() < 0.5:
            result["pattern"] = rng.choice(["^[a-z]{2,4}$", "b", "^a|c$", '^"\\\\?$', "^.{1,3}$", "[0-9]-[0-9]", "^$"])
        return result
    if kind == 3:
        return {"enum": rng.sample([1, 2.5, "x", 'q"', None, True, [1, 2], {"k": 1}, "é"], rng.randrange(1, 4))}
    if kind == 4:
        return {"const": rng.choice(["yes", 7, None, False, [], {"a": [1]}])}
    if kind == 5:
        return {"type": rng.choice(["boolean", "null", ["string", "null"], ["integer", "boolean"], "object", "array"])}
    if kind == 6:
        result = {"type": "array", "items": schema(rng, depth - 1)}
        if rng.random() < 0.5:
            result["minItems"] = rng.randrange(3)
        if rng.random() < 0.5:
            result["maxItems"] = result.get("minItems", 0) + rng.randrange(3)
        if rng.random() < 0.3:
            result["prefixItems"] = [schema(rng, depth - 1) for _ in range(rng.randrange(1, 3))]
        return result
    if kind == 7:
        return {"anyOf": [schema(rng, depth - 1) for _ in range(rng.randrange(1, 4))]}
    names = rng.sample(["a", "ab", "b", "é", "name", 'q"x'], rng.randrange(1, 5))
    result = {"type": "object", "properties": {name: schema(rng, depth - 1) for name in names}}
    result["required"] = rng.sample(names, rng.randrange(len(names) + 1))
    if rng.random() < 0.4:
        result["additionalProperties"] = rng.choice([False, schema(rng, 0), {"type": "integer"}])
    return result


ANY = [None, True, 12, -3.5, "text", "é\n\"", [], [1, [2]], {}, {"k": {"l": []}}]


def value(rng, s):
    """A value of the schema, most likely; as the constraint would write it."""
    if "enum" in s:
        return rng.choice(s["enum"])
    if "const" in s:
        return s["const"]
    if "anyOf" in s:
        return value(rng, rng.choice(s["anyOf"]))
    kind = s.get("type")
    if isinstance(kind, list):
        kind = rng.choice(kind)
    if kind in ("integer", "number"):
        low = s.get("minimum", s.get("exclusiveMinimum", -30) + ("exclusiveMinimum" in s))
        high = s.get("maximum", s.get("exclusiveMaximum", max(low, 0) + 30) - ("exclusiveMaximum" in s))
        whole = rng.randint(low, max(high, low))
        return whole if kind == "integer" or rng.random() < 0.5 else min(max(round(whole + rng.randrange(100) / 100, 2), low), high)
    if kind == "string":
        if "pattern" in s:
            return rng.choice(["ab", "abcd", "b", "xbx", "a", "c", '"', '"\\', "1-2", "é", "", "abc"])
        length = rng.randint(s.get("minLength", 0), s.get("maxLength", s.get("minLength", 0) + 5))
        return "".join(rng.choice(ALPHABET + ['"', "\\"]) for _ in range(length))
    if kind == "array":
        low, high = s.get("minItems", 0), s.get("maxItems", s.get("minItems", 0) + 3)
        prefix = s.get("prefixItems", [])
        return [value(rng, prefix[i] if i < len(prefix) else s["items"]) if "items" in s else rng.choice(ANY)
                for i in range(rng.randint(low, high))]
    if kind == "object":
        if "properties" not in s:
            return rng.choice([{}, {"x": rng.choice(ANY)}, {"x": 1, "y": [2]}])
        result = {n: value(rng, p) for n, p in s["properties"].items() if n in s["required"] or rng.random() < 0.5}
        others = s.get("additionalProperties", False)
        if others and rng.random() < 0.5:
            result["other"] = value(rng, others)
        return result
    return {"boolean": rng.random() < 0.5, "null": None}[kind]


def damaged(rng, v):
    v = copy.deepcopy(v)
    if isinstance(v, dict) and v and rng.random() < 0.7:
        key = rng.choice(sorted(v))
        action = rng.randrange(3)
        if action == 0:
            del v[key]
        elif action == 1:
            v[key] = damaged(rng, v[key])
        else:
            v["extra"] = 1
        return v
    if isinstance(v, list) and v and rng.random() < 0.7:
        at = rng.randrange(len(v))
        if rng.random() < 0.5:
            v[at] = damaged(rng, v[at])
        else:
            v.insert(at, copy.deepcopy(v[at]))
        return v
    if isinstance(v, (int, float)) and not isinstance(v, bool):
        return v + rng.choice([-1000, -1, -0.5, 0.25, 1, 500])
    if isinstance(v, str):
        return near(rng, v)
    return rng.choice(ANY)


def written(rng, v):
    separators, indent = rng.choice([((",", ":"), None), ((", ", ": "), None), ((",", ": "), 2)])
    return json.dumps(v, ensure_ascii=False, separators=separators, indent=indent)


def schemas(rng, count):
    cases = []
    while len(cases) < count:
        s = schema(rng, 2)
        validator = jsonschema.Draft202012Validator(s)
        texts = {}
        for _ in range(12):
            v = value(rng, s)
            texts.setdefault(written(rng, v), [validator.is_valid(v), True])
            bad = damaged(rng, v)
            texts.setdefault(written(rng, bad), [validator.is_valid(bad), False])
        cases.append({"schema": s, "texts": [[t, *judged] for t, judged in sorted(texts.items())]})
    return cases


def main():
    rng = random.Random(20261126)
    golden = {"regexes": regexes(rng, 120), "schemas": schemas(rng, 120)}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "constraints.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump(golden, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


if __name__ == "__main__":
    main()
