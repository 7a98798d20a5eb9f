"""With REDIS_URL the site's cache and channel layer are on a real Redis."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WRITES = """
import asyncio, django
django.setup()
from channels.layers import get_channel_layer
from django.core.cache import cache

async def round_trip():
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add("watchers", channel)
    await layer.group_send("watchers", {"type": "look"})
    return await asyncio.wait_for(layer.receive(channel), 10)

cache.set("seen", "by both", 60)
print(asyncio.run(round_trip())["type"])
"""
READS = (
    "import django; django.setup(); from django.core.cache import cache; print(cache.get('seen'))"
)


def python(code: str, redis_url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ
        | {"DEBUG": "1", "REDIS_URL": redis_url, "DJANGO_SETTINGS_MODULE": "crewsite.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_processes_share_the_cache_and_a_message_goes_through_the_layer(redis_url):
    assert python(WRITES, redis_url) == "look"
    assert python(READS, redis_url) == "by both"
