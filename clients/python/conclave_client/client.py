# SPDX-License-Identifier: Apache-2.0
"""A thin layer over the generated stubs: one call per question, streams that are taken up again, errors by name."""

import dataclasses
import threading
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

import grpc

from conclave.deliberation.v1 import deliberation_pb2 as pb
from conclave.deliberation.v1 import deliberation_pb2_grpc as rpc
from conclave.deliberation.v1 import graph_pb2

MESSAGE_BYTES_MAX = 8 << 20
METADATA_BYTES_MAX = 64 << 10  # gRPC's own default kills a connection whose error details are longer
RESUMES_MAX = 5  # of one stream without an event in between
BACKOFF_SECONDS = 0.2

# Errors after which a stream goes on elsewhere or later; the server says so by these codes.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class RunFailed(Exception):
    """A run that ended without a result: failed (`code` is a google.rpc.Code) or cancelled."""

    def __init__(self, run_id: str, state: int, code: int, message: str):
        super().__init__(f"{run_id}: {pb.RunState.Name(state)}: {message}")
        self.run_id, self.state, self.code, self.message = run_id, state, code, message


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended well."""

    run_id: str
    answer: Optional[str]  # None: the text holds none
    text: str
    ledger: pb.Ledger
    best_effort: bool  # the budget ran out, this is the best so far
    events: List[pb.Event]


def reason(error: grpc.RpcError) -> str:
    """Conclave's name for an error, e.g. "GRAPH_NOT_FOUND"; "" where it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return _error_info_reason(value)
    return ""


def _error_info_reason(details: bytes) -> str:
    # google.rpc.Status.details (field 3) are Any(type_url = 1, value = 2); ErrorInfo.reason is field 1.
    for any_message in _fields(details, 3):
        kinds = list(_fields(any_message, 1))
        if kinds and kinds[0].endswith(b"google.rpc.ErrorInfo"):
            for info in _fields(any_message, 2):
                for name in _fields(info, 1):
                    return name.decode("utf-8", "replace")
    return ""


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """Length-delimited fields of a serialized message with this number."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while at < len(message):
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return value

    while at < len(message):
        key = varint()
        if key & 7 == 2:
            size = varint()
            if key >> 3 == number:
                yield message[at : at + size]
            at += size
        elif key & 7 == 0:
            varint()
        else:
            at += {1: 8, 5: 4}.get(key & 7, len(message))


class Client:
    """Speaks to one orchestrator. Threads may share it. Plaintext unless `ca` names a PEM file of authorities; `cert`
    and `key` are what the orchestrator asks of its callers."""

    def __init__(self, address: str, *, ca: Optional[str] = None, cert: Optional[str] = None, key: Optional[str] = None):
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_metadata_size", METADATA_BYTES_MAX),
            ("grpc.enable_retries", 0),  # a run is asked for once; what is taken up again is decided here
        ]
        if ca is None and cert is None and key is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            read = lambda path: None if path is None else open(path, "rb").read()
            credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = rpc.DeliberationServiceStub(self._channel)
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # ---- Asking

    def ask(self, question: str, graph: str = "single", **options) -> Result:
        """One deliberation to its end; `options` as of events(). Raises RunFailed, or grpc.RpcError when it could not
        be begun."""
        seen = list(self.events(question, graph, **options))
        ended = seen[-1].run_finished
        run_id = seen[-1].run_id
        if ended.state != pb.RUN_STATE_SUCCEEDED:
            raise RunFailed(run_id, ended.state, ended.code, ended.message)
        answer = ended.answer if ended.HasField("answer") else None
        return Result(run_id, answer, ended.text, ended.ledger, ended.best_effort, seen)

    def events(
        self,
        question: str,
        graph: str = "single",
        *,
        inputs: Optional[Mapping[str, str]] = None,
        bindings: Optional[Mapping[str, Sequence[str]]] = None,
        seed: Optional[int] = None,
        budget: Optional[graph_pb2.Budget] = None,
        sampling: Optional[graph_pb2.SamplingDefaults] = None,
        stream_tokens: bool = False,
        cancel_on_disconnect: bool = False,
        request_id: str = "",
        item_id: str = "",
    ) -> Iterator[pb.Event]:
        """The events of a new run, the last of which has run_finished. With a `request_id` that was used before, those
        of the run that it began."""
        request = pb.RunRequest(
            graph_name=graph,
            inputs={"question": question, **(inputs or {})},
            request_id=request_id,
            stream_tokens=stream_tokens,
            cancel_on_disconnect=cancel_on_disconnect,
            item_id=item_id,
        )
        for name, members in (bindings or {}).items():
            request.bindings.add(name=name, members=members)
        if seed is not None:
            request.seed = seed
        if budget is not None:
            request.budget.CopyFrom(budget)
        if sampling is not None:
            request.sampling.CopyFrom(sampling)
        return self._follow(self._stub.Run(request), "", 0, stream_tokens)

    def watch(self, run_id: str, after: int = 0, *, stream_tokens: bool = False) -> Iterator[pb.Event]:
        """A run's events after a number, then what follows, to its end."""
        return self._follow(self._watch(run_id, after, stream_tokens), run_id, after, stream_tokens)

    def _watch(self, run_id: str, after: int, stream_tokens: bool):
        return self._stub.Watch(
            pb.WatchRequest(run_id=run_id, after_sequence_number=after, stream_tokens=stream_tokens)
        )

    def _follow(self, call, run_id: str, last: int, stream_tokens: bool) -> Iterator[pb.Event]:
        """Events of a stream, taken up again after the last one seen when it breaks; heartbeats are left out."""
        resumes = 0
        while True:
            try:
                for response in call:
                    event = response.event
                    run_id = event.run_id
                    if event.HasField("heartbeat"):
                        continue
                    if event.sequence_number > 0:
                        last, resumes = event.sequence_number, 0
                    yield event
                return
            except grpc.RpcError as error:
                # Before the first event nothing says that there is a run.
                if error.code() not in _PASSING or not run_id or resumes >= RESUMES_MAX:
                    raise
            except GeneratorExit:
                call.cancel()
                raise
            resumes += 1
            self._closed.wait(BACKOFF_SECONDS * 2 ** (resumes - 1))
            call = self._watch(run_id, last, stream_tokens)

    # ---- What is there

    def run(self, run_id: str) -> pb.Run:
        return self._stub.GetRun(pb.GetRunRequest(run_id=run_id)).run

    def runs(self) -> Iterator[pb.Run]:
        """All runs, newest first."""
        token = ""
        while True:
            page = self._stub.ListRuns(pb.ListRunsRequest(page_size=200, page_token=token))
            yield from page.runs
            token = page.next_page_token
            if not token:
                return

    def cancel(self, run_id: str) -> int:
        """Returns the run's state once the cancellation is durable."""
        return self._stub.CancelRun(pb.CancelRunRequest(run_id=run_id)).state

    def members(self) -> List[pb.ListMembersResponse.Member]:
        return list(self._stub.ListMembers(pb.ListMembersRequest()).members)

    def validate(self, graph: str, bindings: Optional[Dict[str, Sequence[str]]] = None) -> pb.ValidateGraphResponse:
        """All errors of a graph's text at once; its worst-case cost when it has none and its seats are bound."""
        request = pb.ValidateGraphRequest(graph_textproto=graph)
        for name, members in (bindings or {}).items():
            request.bindings.add(name=name, members=members)
        return self._stub.ValidateGraph(request)
