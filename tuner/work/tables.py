"""The tables of the shared database."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, MetaData, String, Table, Text, func

METADATA = MetaData()
HASH = String(64)

ENVIRONMENTS = Table(
    "asymrnr_environments",
    METADATA,
    Column("environment", HASH, primary_key=True),
    Column("described", Text, nullable=False),
)
ARRAYS = Table(
    "asymrnr_arrays",
    METADATA,
    Column("sha256", HASH, primary_key=True),
    Column("data", LargeBinary, nullable=False),  # safetensors
)
MEASUREMENTS = Table(
    "asymrnr_measurements",
    METADATA,
    Column("environment", HASH, ForeignKey(ENVIRONMENTS.c.environment), primary_key=True),
    Column("key_hash", HASH, primary_key=True),
    Column("key", Text, nullable=False),
    Column("values", Text, nullable=False),
    Column("arrays", HASH, ForeignKey(ARRAYS.c.sha256), nullable=True),
    Column("owner", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)
LEASES = Table(
    "asymrnr_leases",
    METADATA,
    Column("environment", HASH, primary_key=True),
    Column("key_hash", HASH, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),  # by the database's clock, like all times here
)
