"""What an OpenAPI document cannot say of Stemma's requests, said to schemathesis.

Each rule changes a request that is valid by its schema and would be refused for a reason that no
schema holds. The refusals themselves are tried by tests of our own, and by the requests that
schemathesis makes invalid on purpose, which are sent as they are.
"""

import itertools
import uuid

import schemathesis

LABEL_BYTES_MAX = 256
NUMBERS = itertools.count()
PROOF = "/api/log/"
ANNOTATION = {"target": "http://example.org/", "body": {"type": "TextualBody", "value": "a"}}


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    # A position that is not there yet is waited for, and answered 503 NOT_YET after that.
    awaited = str(query.get("min_position", ""))
    if awaited.isascii() and awaited.isdigit() and int(awaited) < 2**64:
        query["min_position"] = 1
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # A cursor is what a list gave; another one is 422 INVALID_CURSOR.
    query.pop("cursor", None)
    # What has not happened yet cannot be read: 422 NOT_HAPPENED_YET. Only one moment of the past can be asked for.
    moments = [name for name in ("as_of", "as_of_revision", "as_of_position") if name in query]
    for name in moments[1:]:
        del query[name]
    for name in ("as_of_revision", "as_of_position", "revision"):
        if name in query:
            query[name] = 0
    if "as_of" in query:
        query["as_of"] = "2020-01-01T00:00:00Z"
    # A proof can be had of what the log has, and from an earlier size to a later one.
    if case.operation.path.startswith(PROOF):
        for name, value in (("position", 3), ("from", 5), ("size", 9), ("to", 9)):
            if name in query:
                query[name] = value
    # A key that came before with another request is 422 IDEMPOTENCY_KEY_REUSED.
    headers = case.headers or {}
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"{next(NUMBERS)}-{uuid.uuid4()}"
    # A header without a value stands for none.
    for name in [name for name, value in headers.items() if value == ""]:
        del headers[name]
    # What an annotation may be is the W3C model, which no schema holds; it is fuzzed on its own.
    body = case.body if isinstance(case.body, dict) else {}
    annotations = [part.get("annotation") for part in body.get("operations", []) if isinstance(part, dict)]
    if case.operation.path.endswith("/annotations"):
        annotations = [body]
    if case.operation.path == "/api/graph/query":
        # What Cypher is, no schema holds; it is fuzzed on its own.
        body["query"] = "MATCH (n) RETURN count(n)"
    if case.operation.path.endswith("/body"):
        # An item can be taken away where it is.
        body["operations"] = [{"op": "add", "item": ANNOTATION["body"]}]
    for annotation in filter(None, annotations):
        annotation.clear()
        annotation.update(ANNOTATION)
    # The slashes in the number of a tile are part of the path.
    parameters = case.path_parameters or {}
    if "tile" in parameters:
        parameters["tile"] = parameters["tile"].replace("/", "")[-3:]


def labels(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from labels(item)
    elif isinstance(value, dict):
        for name in ("entity_type", "entity_types", "entityType", "collection", "type", "name"):
            yield from labels(value.get(name))


def integers(value):
    if isinstance(value, int):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from integers(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from integers(item)


@schemathesis.hook
def filter_case(context, case):
    # Integers beyond 64 bits are 422 INTEGER_OUT_OF_RANGE wherever they stand in free JSON.
    if any(not -(2**63) <= number < 2**64 for number in integers(case.body)):
        return False
    # Limits are in bytes, those of a schema in characters.
    given = [case.query, case.body, case.path_parameters]
    try:
        return all(
            len(text.encode()) <= LABEL_BYTES_MAX for part in given for text in labels(part)
        )
    except UnicodeEncodeError:
        return False
