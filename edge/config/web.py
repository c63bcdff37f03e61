"""The section `web`: where the page is served, under which names, and what protects it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge.config.broker_address import is_loopback
from edge.config.value_types import File, Listener, Section

HostName = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
BasePath = Annotated[str, Field(max_length=200, pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$")]


class WebTls(Section):
    certificate: File = Field(description="PEM file of the page's certificate and its chain")
    key: File = Field(description="PEM file of its private key")


class Web(Listener):
    listen: str | None = Field("127.0.0.1:8480", description="HOST:PORT of the page; null: no page")
    process: Literal["daemon", "unit"] = Field(
        "daemon", description="who starts the page: the daemon, or the unit defectd-web.service"
    )
    hosts: list[HostName] = Field([], max_length=32, description="names under which browsers reach the page")
    base_path: BasePath = Field("", description="path before all paths of the page, behind a proxy, such as /line3")
    tls: WebTls | None = Field(None, description="{certificate: FILE, key: FILE}: the page is served over https")
    behind_proxy: list[str] = Field(
        [], max_length=16, description="addresses or networks of proxies that serve the page over https"
    )

    @field_validator("behind_proxy")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError("should be addresses or networks, such as [192.0.2.7] or [10.1.0.0/16]") from None
            if network.prefixlen == 0:
                raise ValueError(f"{text} is every address there is; name those of the proxy")
        return value

    @model_validator(mode="after")
    def _is_protected(self) -> Web:
        address = self.address
        if address is not None and not is_loopback(address[0]) and self.tls is None and not self.behind_proxy:
            raise ValueError(
                f"passwords and pictures would go through the network in clear text from {self.listen}; "
                "set web.tls, or web.behind_proxy, or listen on 127.0.0.1"
            )
        return self
