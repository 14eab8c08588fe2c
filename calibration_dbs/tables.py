"""The tables."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: Alembic's version table; not the default name, which a pipeline's own migrations may use.
VERSION_TABLE = "alembic_version_crattn"
#: Bytes of the longest path: PostgreSQL cannot index longer strings.
LONGEST_PATH = 2000


def _now():
    return datetime.now(UTC)


def _where(condition):
    """Return the arguments of an index of some rows only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Base(DeclarativeBase):
    """Base of our tables; named constraints, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Model(Base):
    """A model that has been used or registered, identified by the sha256 of its weights."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    architecture: Mapped[str] = mapped_column(String(50))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    first_used: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    #: A shipped name or the path of the weights file.
    path: Mapped[str | None] = mapped_column(Text)
    #: Its masks are not to be trusted; it is never chosen.
    is_bad: Mapped[bool] = mapped_column(default=False, server_default=false())
    superseded_by_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    superseded_by: Mapped["Model | None"] = relationship(remote_side="Model.id")
    runs: Mapped[list["Run"]] = relationship(back_populates="model")
    validities: Mapped[list["Validity"]] = relationship(back_populates="model")


class Validity(Base):
    """The instrument and nights for which a model was registered, and when."""

    __tablename__ = "validities"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    #: Camera family or INSTRUME, lower case; any if None.
    instrument: Mapped[str | None] = mapped_column(String(50))
    #: YYYYMMDD, both included; open if None.
    first_night: Mapped[str | None] = mapped_column(String(8))
    last_night: Mapped[str | None] = mapped_column(String(8))
    registered: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    retired: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    #: Why it was registered, and why it was retired.
    reason: Mapped[str | None] = mapped_column(Text)
    retired_reason: Mapped[str | None] = mapped_column(Text)
    #: The comparison that the model had passed, or why there was none; None before there were comparisons.
    comparison: Mapped[dict | None] = mapped_column(JSON)
    model: Mapped[Model] = relationship(back_populates="validities")


class Frame(Base):
    """A frame, identified by the absolute path of its file."""

    __tablename__ = "frames"
    __table_args__ = (
        # The usual hit rate of a camera is that of its newest nights.
        Index("ix_frames_camera", "camera", "site", "night"),
        Index("ix_frames_locked_by", "locked_by", **_where("locked_by IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(Text, unique=True)
    #: Camera family; INSTRUME; SITEID or OBSERVAT.
    instrument: Mapped[str | None] = mapped_column(String(50), index=True)
    camera: Mapped[str | None] = mapped_column(String(50))
    site: Mapped[str | None] = mapped_column(String(50))
    night: Mapped[str | None] = mapped_column(String(8), index=True)
    #: Start of the exposure, UTC; not of frames that were recorded before it was.
    observed: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    filter: Mapped[str | None] = mapped_column(String(50))
    observation_type: Mapped[str | None] = mapped_column(String(50))
    exposure_time: Mapped[float | None]
    #: The worker that masks it now, and until when it is believed alive without a sign of life.
    locked_by: Mapped[str | None] = mapped_column(String(200))
    locked_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    runs: Mapped[list["Run"]] = relationship(back_populates="frame")


class Batch(Base):
    """The runs that one call of ``reprocess`` queued for a night."""

    __tablename__ = "batches"

    id: Mapped[int] = mapped_column(primary_key=True)
    night: Mapped[str] = mapped_column(String(8), index=True)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    finished: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    runs: Mapped[list["Run"]] = relationship(back_populates="batch")


class Run(Base):
    """One frame to be masked, or masked, with one model."""

    __tablename__ = "runs"
    # The queue: workers claim the first of these, by priority.
    __table_args__ = (
        Index("ix_runs_open", "id", **_where("status IN ('queued', 'running')")),
        Index("ix_runs_priority", "priority", "id", **_where("status IN ('queued', 'running')")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    frame_id: Mapped[int] = mapped_column(ForeignKey("frames.id"), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"), index=True)
    #: "queued", "running", "succeeded", "failed", "skipped", "superseded" or "already done".
    status: Mapped[str] = mapped_column(String(20))
    #: Why it failed, or why it was superseded.
    error: Mapped[str | None] = mapped_column(Text)
    #: Of queued runs, those with the highest go first; 0 to 9.
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    #: How often it was begun, and how often its worker was lost.
    attempts: Mapped[int] = mapped_column(default=1, server_default="1")
    losses: Mapped[int] = mapped_column(default=0, server_default="0")
    threshold: Mapped[float]
    engine: Mapped[str] = mapped_column(String(50))
    version: Mapped[str] = mapped_column(String(50))
    started: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    finished: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), index=True)
    #: Of the frame, and of its companion mask behind it.
    input_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    #: Where the masked frame is to be written, and how; of queued runs.
    target: Mapped[str | None] = mapped_column(Text, index=True)
    options: Mapped[dict | None] = mapped_column(JSON)
    #: Of the mask and its products beside the threshold; {} is the default, None of runs before they were recorded.
    settings: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))
    #: Where it went, and {path: sha256} of all its files.  The latter is recorded just before the files are
    #: renamed, so that files of a killed worker are recognised as ours.
    output_path: Mapped[str | None] = mapped_column(Text, index=True)
    outputs: Mapped[dict | None] = mapped_column(JSON)
    output_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    hits: Mapped[int | None]
    fraction: Mapped[float | None]
    rate: Mapped[float | None]
    star_fraction: Mapped[float | None]
    galaxy_fraction: Mapped[float | None]
    #: Of hits that were added to the frame, and objects per million pixels of its mirrored sky.
    faint_completeness: Mapped[float | None]
    bright_completeness: Mapped[float | None]
    noise_objects: Mapped[float | None]
    verdict: Mapped[str | None] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(Text)
    megapixels: Mapped[float | None]
    #: cm2 searched.
    area: Mapped[float | None]
    frame: Mapped[Frame] = relationship(back_populates="runs")
    model: Mapped[Model] = relationship(back_populates="runs")
    batch: Mapped[Batch | None] = relationship(back_populates="runs")
    amplifiers: Mapped[list["Amplifier"]] = relationship(
        back_populates="run", cascade="all, delete-orphan", order_by="Amplifier.id"
    )


class Amplifier(Base):
    """What one run found in one amplifier."""

    __tablename__ = "amplifiers"
    __table_args__ = (UniqueConstraint("run_id", "extension", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    extension: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    pixels: Mapped[int] = mapped_column(BigInteger)
    searched: Mapped[int] = mapped_column(BigInteger)
    hits: Mapped[int]
    #: Of `pixels` and `searched`, those near the amplifier's border.
    border_pixels: Mapped[int | None] = mapped_column(BigInteger)
    border_searched: Mapped[int | None] = mapped_column(BigInteger)
    run: Mapped[Run] = relationship(back_populates="amplifiers")


class Hit(Base):
    """A cosmic-ray hit of a run that was asked to keep them; the columns are those of its table of hits."""

    __tablename__ = "hits"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    detector: Mapped[str] = mapped_column(Text)
    amplifier: Mapped[str] = mapped_column(Text)
    #: Pixels from 0, and degrees.
    x: Mapped[float]
    y: Mapped[float]
    ra: Mapped[float | None]
    dec: Mapped[float | None]
    #: Electrons, None where the gain is not known; and in the unit of the image, as the background and the noise.
    charge: Mapped[float | None]
    counts: Mapped[float | None]
    gain: Mapped[float | None]
    background: Mapped[float | None]
    noise: Mapped[float | None]
    #: Pixels and degrees.
    pixels: Mapped[int]
    length: Mapped[float | None]
    width: Mapped[float | None]
    angle: Mapped[float | None]
    straightness: Mapped[float | None]
    kind: Mapped[str] = mapped_column("class", String(10))
    peak_snr: Mapped[float | None]
    probability: Mapped[float | None]
    near_star: Mapped[bool]
    near_edge: Mapped[bool]


def is_utf8(text):
    """Tell whether a text, such as the path of a file, can be stored as it is.

    Parameters
    ----------
    text : object
        Taken as its `str`.

    Returns
    -------
    bool
        False where it holds bytes that are no UTF-8, which Python shows as lone surrogates.
    """
    return str(text).encode("utf-8", "replace").decode() == str(text)


def fitted(table, columns):
    """Return columns that any database takes: text is cut to its column's length, without NUL and lone surrogates.

    Parameters
    ----------
    table : type
        Of this module.
    columns : dict
        Name -> value.

    Returns
    -------
    dict
    """
    types = table.__table__.columns
    return {name: _fitted(value, getattr(types[name].type, "length", None)) for name, value in columns.items()}


def _fitted(value, length):
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:length]
