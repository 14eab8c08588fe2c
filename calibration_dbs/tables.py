"""The tables."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: Alembic's version table; not the default name, which a pipeline's own migrations may use.
VERSION_TABLE = "alembic_version_crattn"


def _now():
    return datetime.now(UTC)


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
    """A model that has been run, told apart by the sha256 of its weights."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    architecture: Mapped[str] = mapped_column(String(50))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    first_used: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    runs: Mapped[list["Run"]] = relationship(back_populates="model")


class Frame(Base):
    """A frame, told apart by the path of its file."""

    __tablename__ = "frames"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(String(1000), unique=True)
    instrument: Mapped[str | None] = mapped_column(String(50), index=True)
    night: Mapped[str | None] = mapped_column(String(8), index=True)
    observation_type: Mapped[str | None] = mapped_column(String(50))
    exposure_time: Mapped[float | None]
    runs: Mapped[list["Run"]] = relationship(back_populates="frame")


class Run(Base):
    """One attempt to mask one frame with one model."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    frame_id: Mapped[int] = mapped_column(ForeignKey("frames.id"), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    #: "running", "succeeded", "failed" or "skipped".
    status: Mapped[str] = mapped_column(String(20), index=True)
    error: Mapped[str | None] = mapped_column(Text)
    threshold: Mapped[float]
    engine: Mapped[str] = mapped_column(String(50))
    version: Mapped[str] = mapped_column(String(50))
    started: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    finished: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    input_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    output_path: Mapped[str | None] = mapped_column(String(1000), index=True)
    output_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    hits: Mapped[int | None]
    fraction: Mapped[float | None]
    rate: Mapped[float | None]
    star_fraction: Mapped[float | None]
    verdict: Mapped[str | None] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(Text)
    frame: Mapped[Frame] = relationship(back_populates="runs")
    model: Mapped[Model] = relationship(back_populates="runs")
    amplifiers: Mapped[list["Amplifier"]] = relationship(back_populates="run", cascade="all, delete-orphan")


class Amplifier(Base):
    """What one run found in one amplifier."""

    __tablename__ = "amplifiers"
    __table_args__ = (UniqueConstraint("run_id", "extension", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    extension: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(20))
    pixels: Mapped[int] = mapped_column(BigInteger)
    searched: Mapped[int] = mapped_column(BigInteger)
    hits: Mapped[int]
    run: Mapped[Run] = relationship(back_populates="amplifiers")
