"""What turns results into bytes and back, at the name it has always had; it lives in `mpflow.serializers`."""

from __future__ import annotations

from mpflow.serializers import JSONSerializer, PickleSerializer, Serializer

__all__ = ["JSONSerializer", "PickleSerializer", "Serializer"]
