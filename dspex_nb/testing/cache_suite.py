"""What every cache must do, as tests: subclass `CacheSuite` and give it a cache.

```python
class TestMyCache(CacheSuite):
    def make_cache(self, **options):
        return MyCache(**options)
```
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_nb.cache import Cache


def key(name: object) -> str:
    """Return a key as `request_key` makes them."""
    return hashlib.sha256(str(name).encode()).hexdigest()


class CacheSuite:
    """Tests of one cache. Options asked for: `ttl_s`."""

    def make_cache(self, **options: Any) -> Cache:
        """Return an empty cache."""
        raise NotImplementedError

    def test_what_was_put_is_got(self) -> None:
        """Values are JSON and come back equal, text of any script included."""
        cache = self.make_cache()
        value = {"outputs": [{"text": "Grüße 🙂 \x00 </script>"}], "nested": {"list": [1, 2.5, None, True]}}
        cache.put(key(1), value)
        hit = cache.get(key(1))
        assert hit is not None
        assert dict(hit.value) == value

    def test_what_was_not_put_is_a_counted_miss(self) -> None:
        """A miss is None, and counted once."""
        cache = self.make_cache()
        assert cache.get(key("nothing")) is None
        assert cache.get(key("nothing"), again=True) is None
        assert cache.stats().misses == 1

    def test_the_last_put_wins(self) -> None:
        """Putting again replaces."""
        cache = self.make_cache()
        for number in range(3):
            cache.put(key(1), {"n": number})
        hit = cache.get(key(1))
        assert hit is not None
        assert hit.value == {"n": 2}
        assert cache.stats().entries == 1

    def test_entries_expire(self) -> None:
        """An entry's own time goes before the cache's."""
        cache = self.make_cache(ttl_s=60)
        cache.put(key("short"), {"n": 1}, ttl_s=0.02)
        cache.put(key("long"), {"n": 2})
        time.sleep(0.03)
        assert cache.get(key("short")) is None
        assert cache.get(key("long")) is not None

    def test_hits_are_counted_with_what_they_saved(self) -> None:
        """Statistics say hits, and money and tokens not spent."""
        cache = self.make_cache()
        cache.put(key(1), {"cost": 0.25, "usage": {"prompt_tokens": 10, "completion_tokens": 2}})
        cache.get(key(1))
        cache.get(key(1))
        stats = cache.stats()
        assert stats.hits == 2  # noqa: PLR2004 - two were asked for
        assert (stats.saved_cost, stats.saved_tokens) == (0.5, 24)

    def test_clear_leaves_nothing(self) -> None:
        """After clear every look-up misses."""
        cache = self.make_cache()
        for number in range(5):
            cache.put(key(number), {"n": number})
        cache.clear()
        assert [cache.get(key(number)) for number in range(5)] == [None] * 5
        assert cache.stats().entries == 0

    def test_threads_may_share_it(self) -> None:
        """Eight threads put and get at once; nothing is lost or mixed up."""
        cache = self.make_cache()

        def work(number: int) -> bool:
            cache.put(key(number), {"n": number})
            hit = cache.get(key(number))
            return hit is not None and hit.value == {"n": number}

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(work, range(200)))
        assert cache.stats().faults == 0
