"""The tables as peewee models, and how a record becomes a row and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from peewee import BigIntegerField, CompositeKey, Model, TextField

from nmk.core.endpoints import parse_lan, parse_observed
from nmk.core.gateways import gateway_json, parse_gateway
from nmk.core.nesting import read_json
from nmk.core.records import AccessKey, ExtClient, Facts, Issue, Network, Node, Record

Row = Mapping[str, Any]
_LISTS = ("addresses", "ranges")  # of an Issue


class MetaRow(Model):
    """Facts about the database itself: its epoch and its schema's version."""

    name = TextField(primary_key=True)
    value = TextField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "meta"


class ChangeRow(Model):
    """One commit to one network; the primary key is the compare-and-swap."""

    network = TextField()
    revision = BigIntegerField()
    commit_id = TextField()
    at = BigIntegerField()
    actor = TextField()
    what = TextField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "changes"
        primary_key = CompositeKey("network", "revision")


class NetworkRow(Model):
    """`core.records.Network`."""

    name = TextField(primary_key=True)
    cidr4 = TextField(null=True)
    cidr6 = TextField(null=True)
    settings = TextField()
    created_at = BigIntegerField()
    deleted_at = BigIntegerField(null=True)
    revision = BigIntegerField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "networks"


class AccessKeyRow(Model):
    """`core.records.AccessKey`."""

    network = TextField()
    id = TextField()
    secret_hash = TextField()
    uses = BigIntegerField()
    uses_max = BigIntegerField(null=True)
    expires_at = BigIntegerField(null=True)
    created_at = BigIntegerField()
    deleted_at = BigIntegerField(null=True)
    revision = BigIntegerField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "access_keys"
        primary_key = CompositeKey("network", "id")


class NodeRow(Model):
    """`core.records.Node`, its facts side by side with the rest."""

    network = TextField()
    identity = TextField()
    name = TextField()
    address4 = TextField(null=True)
    address6 = TextField(null=True)
    wg_key = TextField()
    listen_port = BigIntegerField()
    lan = TextField()
    interval = BigIntegerField()
    pinned = TextField(null=True)
    instance = TextField()
    observed = TextField()
    endpoint = TextField(null=True)
    gateway = TextField()
    protocol = BigIntegerField()
    seq = BigIntegerField()
    key_id = TextField()
    created_at = BigIntegerField()
    deleted_at = BigIntegerField(null=True)
    revision = BigIntegerField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "nodes"
        primary_key = CompositeKey("network", "identity")


class ExtClientRow(Model):
    """`core.records.ExtClient`."""

    network = TextField()
    id = TextField()
    name = TextField()
    gateway = TextField()
    public_key = TextField()
    address4 = TextField(null=True)
    address6 = TextField(null=True)
    issue = TextField()
    routes = TextField()
    full_tunnel = BigIntegerField()
    state = TextField()
    expires_at = BigIntegerField(null=True)
    created_at = BigIntegerField()
    deleted_at = BigIntegerField(null=True)
    revision = BigIntegerField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "ext_clients"
        primary_key = CompositeKey("network", "id")


class PresenceRow(Model):
    """When a node was last heard of: outside the revision log, written in batches."""

    identity = TextField(primary_key=True)
    last_seen = BigIntegerField()

    class Meta:  # noqa: D106  # peewee's way to name a table
        table_name = "presence"


TABLES: dict[type[Record], Any] = {  # type[Model], whose columns no type checker sees
    Network: NetworkRow,
    AccessKey: AccessKeyRow,
    Node: NodeRow,
    ExtClient: ExtClientRow,
}


def to_row(record: Record) -> dict[str, Any]:
    """The record's columns and their values."""
    row = {f.name: getattr(record, f.name) for f in fields(record)}
    match record:
        case Network():
            row["settings"] = json.dumps(dict(record.settings), sort_keys=True)
        case Node():
            facts: Facts = row.pop("facts")
            row |= {
                "wg_key": facts.wg_key,
                "listen_port": facts.listen_port,
                "lan": json.dumps(facts.lan),
                "interval": facts.interval,
                "pinned": facts.endpoint,
                "instance": facts.instance,
                "protocol": facts.protocol,
                "observed": json.dumps(record.observed),
                "gateway": json.dumps(gateway_json(record.gateway), sort_keys=True),
            }
        case ExtClient():
            row["issue"] = json.dumps(asdict(record.issue), sort_keys=True)
            row["routes"] = json.dumps(record.routes)
            row["full_tunnel"] = int(record.full_tunnel)
        case AccessKey():
            pass
    return row


def from_row(kind: type[Record], row: Row) -> Record:
    """The record of a row as an engine reads it."""
    values = dict(row)
    if kind is Network:
        return Network(**{**values, "settings": read_json(values["settings"])})
    if kind is AccessKey:
        return AccessKey(**values)
    if kind is ExtClient:
        issue = read_json(values["issue"])
        lists = {k: None if v is None else tuple(v) for k, v in issue.items() if k in _LISTS}
        values["issue"] = Issue(**{**issue, **lists})
        values["routes"] = tuple(read_json(values["routes"]))
        values["full_tunnel"] = bool(values["full_tunnel"])
        return ExtClient(**values)
    facts = Facts(
        wg_key=values.pop("wg_key"),
        listen_port=values.pop("listen_port"),
        lan=parse_lan(read_json(values.pop("lan"))),
        interval=values.pop("interval"),
        endpoint=values.pop("pinned"),
        instance=values.pop("instance"),
        protocol=values.pop("protocol"),
    )
    observed = parse_observed(read_json(values["observed"]))
    gateway = parse_gateway(read_json(values["gateway"]))
    return Node(**{**values, "facts": facts, "observed": observed, "gateway": gateway})
