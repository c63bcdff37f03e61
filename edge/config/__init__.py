"""What was asked for: the configuration, calibrations, tuning, and what commands changed."""

from edge.config.broker_address import broker_address, embedded_port
from edge.config.grading import Product, Roll
from edge.config.loader import find_camera, json_schema, load, parse, require_secrets, state_dir_of
from edge.config.schema import (
    CalibratedThresholds,
    Camera,
    Commands,
    Config,
    Decision,
    Evidence,
    ImageQuality,
    Log,
    Metrics,
    Model,
    Mqtt,
    Outbox,
    Scale,
    Sparkplug,
    Verb,
)
from edge.config.state_dir import StateDir
from edge.config.strip_sections import PATH_STEP, Coils, StripWidth, Travel
from edge.config.value_types import MAX_ZONES, TILE_PX, Name, Point, Polygon, Rectangle, Share
from edge.config.web import Web

__all__ = [
    "MAX_ZONES",
    "PATH_STEP",
    "TILE_PX",
    "CalibratedThresholds",
    "Camera",
    "Coils",
    "Commands",
    "Config",
    "Decision",
    "Evidence",
    "ImageQuality",
    "Log",
    "Metrics",
    "Model",
    "Mqtt",
    "Name",
    "Outbox",
    "Point",
    "Polygon",
    "Product",
    "Rectangle",
    "Roll",
    "Scale",
    "Share",
    "Sparkplug",
    "StateDir",
    "StripWidth",
    "Travel",
    "Verb",
    "Web",
    "broker_address",
    "embedded_port",
    "find_camera",
    "json_schema",
    "load",
    "parse",
    "require_secrets",
    "state_dir_of",
]
