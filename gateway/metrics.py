"""Figures for Prometheus, pulled from the parts when they are asked for."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.engine import Engine
from gateway.health import checks
from gateway.log import dropped
from gateway.sources.folder import Folder
from gateway.sources.replica import Replica
from gateway.unreadable import Unreadable

if TYPE_CHECKING:
    from gateway.broker.publisher import Publisher
    from gateway.sources.backend import Backend


class EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        hub, store = self._engine.hub, self._engine.store
        yield _labelled(GaugeMetricFamily, "subscribers", "Subscriptions", ["transport"], hub.transports().items())
        yield _labelled(
            CounterMetricFamily, "replies", "Whole answers", ["dialect", "code"], self._engine.replies.items()
        )
        yield _labelled(
            CounterMetricFamily, "refusals", "Streams refused", ["reason"], self._engine.limits.refused.items()
        )
        yield _labelled(
            GaugeMetricFamily,
            "check",
            "1 where all is well",
            ["name"],
            [(n, ok) for n, (ok, _) in checks(self._engine).items()],
        )
        for name, help, value in (
            ("events", "States, deletions and invalid files published", hub.published),
            ("deliveries", "Events given to subscriptions", hub.delivered),
            ("delivered_bytes", "Bytes of them", hub.bytes),
            ("conflated", "Events that a newer one of the task made needless for one that was behind", hub.conflated),
            ("resets", "Subscriptions that had to begin anew", hub.resets),
            ("expired", "Subscriptions closed because they took nothing", hub.expired),
        ):
            yield CounterMetricFamily(f"gateway_{name}", help, value=value)
        restarts = self._engine.parts.restarts.items()
        yield _labelled(
            CounterMetricFamily, "part_restarts", "Parts started again after they failed", ["part"], restarts
        )
        yield CounterMetricFamily("gateway_log_dropped", "Lines of the log that were not written", value=dropped())
        yield GaugeMetricFamily("gateway_tasks", "Tasks held in memory", value=len(store))
        yield GaugeMetricFamily("gateway_loop_lag_seconds", "By how much the loop was late", value=self._engine.lag)
        if self._engine.folder:
            yield from _of_folder(self._engine.folder)
        if self._engine.backend:
            yield from _of_backend(self._engine.backend)
        if self._engine.replica:
            yield from _of_replica(self._engine.replica)
        if self._engine.publisher:
            yield from _of_publisher(self._engine.publisher)


def _of_folder(folder: Folder) -> Iterator[Metric]:
    for name, help, value in (
        ("torn_reads", "Reads that found a file not whole", folder.reader.torn),
        ("reconciliation_findings", "Changes that no hint had told of", folder.findings),
    ):
        yield CounterMetricFamily(f"gateway_{name}", help, value=value)
    yield GaugeMetricFamily("gateway_watching", "1 with a file watcher, 0 without", value=float(folder.watching))
    age = time.monotonic() - folder.reconciled if folder.scanned.is_set() else float("inf")
    yield GaugeMetricFamily("gateway_reconciliation_age_seconds", "Since the folder was compared", value=age)
    latency = HistogramMetricFamily("gateway_write_to_publish_seconds", "From a file's time stamp to its event")
    latency.add_metric([], *folder.reader.latency.buckets())
    yield latency


def _of_backend(backend: "Backend") -> Iterator[Metric]:
    yield GaugeMetricFamily("gateway_polled_tasks", "Tasks polled at the backend", value=len(backend.pollers))
    places = backend.pollers.places
    unknown = {"polled": len(places), "waiting": len(places.line)}.items()
    yield _labelled(GaugeMetricFamily, "unknown_ids", "Wanted ids that the backend may not know", ["state"], unknown)
    waiting = {kind: backend.slots.waiting(known=kind == "known") for kind in ("known", "unknown")}
    counts, seconds = ([(kind, found[n]) for kind, found in waiting.items()] for n in (0, 1))
    yield _labelled(GaugeMetricFamily, "backend_waiting", "Polls that wait for their turn", ["kind"], counts)
    yield _labelled(GaugeMetricFamily, "backend_waiting_seconds", "How long the first of them does", ["kind"], seconds)
    refused = backend.refused.items()
    yield _labelled(CounterMetricFamily, "backend_refusals", "Polls of unknown ids refused", ["reason"], refused)
    outcomes = backend.asking.outcomes.items()
    yield _labelled(CounterMetricFamily, "backend_polls", "Polls of the backend", ["outcome"], outcomes)


def _of_replica(replica: Replica) -> Iterator[Metric]:
    yield GaugeMetricFamily("gateway_stale", "1 while what is held may be old", value=float(replica.stale))
    yield CounterMetricFamily("gateway_snapshots", "Whole states taken from the source", value=replica.snapshots)
    yield _unreadable(replica.unreadable)


def _of_publisher(publisher: "Publisher") -> Iterator[Metric]:
    up = float(not publisher.trouble)
    yield GaugeMetricFamily("gateway_broker_up", "1 while the broker can be written to", value=up)
    yield GaugeMetricFamily("gateway_broker_leads", "1 where this gateway publishes", value=float(publisher.leads))
    yield CounterMetricFamily("gateway_broker_published", "Changes written to the broker", value=publisher.published)
    yield _unreadable(publisher.unreadable)
    if held := publisher.held:
        for name, help, value in (
            ("stream_bytes", "Memory of the broker's stream", held.stream_bytes),
            ("task_bytes", "Memory of the tasks that the broker holds", held.task_bytes),
            ("entries", "Changes in the broker's stream", held.entries),
            ("tasks", "Tasks that the broker holds", held.tasks),
        ):
            yield GaugeMetricFamily(f"gateway_broker_{name}", help, value=value)


def _unreadable(unreadable: Unreadable) -> Metric:
    return CounterMetricFamily("gateway_unreadable_records", "Records that made no sense", value=unreadable.count)


def _labelled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    help: str,
    labels: list[str],
    rows: Iterable[tuple[str | tuple[object, ...], float]],
) -> Metric:
    family = kind(f"gateway_{name}", help, labels=labels)
    for key, value in rows:
        family.add_metric([key] if isinstance(key, str) else [str(part) for part in key], value)
    return family


def exposition(engine: Engine, accept: str) -> tuple[bytes, str]:
    """The figures now, in the format that a scraper accepts, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(engine))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
