#!/usr/bin/env python3
"""A worker for jobs of one's own, in the standard library: counts the words of a text.

    python3 worker.py http://127.0.0.1:8470

Where the server asks for tokens, one of the role worker is in the environment as STEMMA_TOKEN.

Queue a job: curl -H 'Content-Type: application/json' http://127.0.0.1:8470/api/jobs \
    -d '{"type": "word.count", "payload": {"text": "to be or not to be"}}'
"""
import json, os, sys, threading, time, urllib.error, urllib.request

TYPE, WAIT_MS, AWAY_S, BUSY_TRIES = "word.count", 20_000, 2, 30
HEADERS = {"Content-Type": "application/json"}
if os.environ.get("STEMMA_TOKEN"):
    HEADERS["Authorization"] = "Bearer " + os.environ["STEMMA_TOKEN"]


class LeaseLost(Exception):
    """Another worker has the job, or it has ended: drop it, and tell nothing."""


def post(url, body):
    """Calls; while the server is busy (429, 503) it is asked again, when it says to."""
    for tries_left in reversed(range(BUSY_TRIES)):
        try:
            return post_once(url, body)
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or not tries_left:
                raise
            after = error.headers.get("Retry-After", "")
            time.sleep(int(after) if after.isdigit() else AWAY_S)


def post_once(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_MS / 1000 + 10) as answer:
            return json.load(answer) if answer.status != 204 else None
    except urllib.error.HTTPError as error:
        if error.code in (404, 409):
            raise LeaseLost from error
        if error.code < 500 and error.code != 429:
            raise RuntimeError(error.read().decode()) from error
        raise


def keep_lease(url, token, lease_s, done, stop):
    """Renews the lease at a third of it; sets `stop` when the job is cancelled or lost."""
    while not done.wait(lease_s / 3):
        try:
            if post(url + "/heartbeat", {"fencing_token": token})["cancelled"]:
                stop.set()
        except LeaseLost:
            stop.set()
        except OSError as error:
            print("no heartbeat:", error, flush=True)


def count(payload, stop):
    if not isinstance(payload.get("text"), str):
        raise ValueError("payload.text is missing")
    words = 0
    for line in payload["text"].splitlines():
        if stop.is_set():
            return None
        words += len(line.split())
    return {"words": words}


def do(server, claim):
    url, token = f"{server}/api/workers/jobs/{claim['job']['id']}", claim["fencing_token"]
    done, stop = threading.Event(), threading.Event()
    keeper = threading.Thread(target=keep_lease, args=(url, token, claim["lease_ms"] / 1000, done, stop))
    keeper.start()
    try:
        result = count(claim["job"]["payload"], stop)
        if result is None:
            post(url + "/release", {"fencing_token": token, "reason": "stopped"})
        else:
            post(url + "/complete", {"fencing_token": token, "result": result})
    except ValueError as error:
        failure = {"code": "INVALID_PAYLOAD", "message": str(error), "transient": False}
        post(url + "/fail", {"fencing_token": token, "error": failure})
    finally:
        done.set()
        keeper.join()


if __name__ == "__main__":
    server, ask = sys.argv[1], {"worker": f"words-{os.getpid()}", "types": [TYPE], "wait_ms": WAIT_MS}
    while True:
        try:
            claim = post(server + "/api/workers/claim", ask)
            if claim:
                do(server, claim)
        except LeaseLost:
            pass
        except OSError as error:
            print("the server is away:", error, flush=True)
            time.sleep(AWAY_S)
