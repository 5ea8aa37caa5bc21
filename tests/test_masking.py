"""Write keys in what is shown."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore.masking import mask_write_keys, masked_halves
from trackcore.wire.rules import is_write_key


class TestMasking:
    """Write keys are masked, in whatever was sent, and what was JSON stays JSON."""

    KEY = "a-key-that-is-secret"

    @pytest.mark.parametrize(
        "text",
        [
            json.dumps({"writeKey": KEY}),
            json.dumps(json.dumps({"writeKey": KEY})),
            json.dumps(json.dumps(json.dumps({"writeKey": KEY, "batch": []}))),
            str({"writeKey": KEY, "userId": "u"}),
            '{"userId":"u","writeKey":"' + KEY,
            json.dumps({"writeKey": KEY + '"' + KEY}),
            json.dumps({"write_key": KEY}),
            json.dumps({"batch": [{"Write-Key": KEY}], "a": {" writekey ": KEY}}),
            json.dumps(json.dumps(json.dumps({"write_key": KEY, "write\tkey": KEY, "write\u2003key": KEY}))),
            str({"write_key": KEY, "userId": "u", "WRITE KEY": KEY}),
            '{"userId":"u","write_key" : "' + KEY,
            '{"\\u0077rite\\u005FKe\\u0079":"' + KEY + '"}',
        ],
    )
    def test_whoever_wrote_it_down(self, text: str) -> None:
        masked = mask_write_keys(text.encode()).decode()
        assert "a-ke…" in masked
        assert "secret" not in masked

    @pytest.mark.parametrize("text", [b"a-ke\xff-that-is-secret", b"a-ke\n-that-is-secret", b"a-key-that-is-secret\\"])
    def test_a_key_that_is_no_text(self, text: bytes) -> None:
        masked = mask_write_keys(b'{"writeKey":"%b' % text)
        assert masked.startswith('{"writeKey":"a-ke…'.encode())
        assert b"secret" not in masked

    def test_a_key_with_an_escape(self) -> None:
        """Were it cut within the escape, the text would not be JSON any more."""
        for key, shown in ((rb"a-\u006bey-that-is-secret", "a-ke…"), (rb"a-\ud800-that-is-secret", "…")):
            assert json.loads(mask_write_keys(b'{"writeKey":"%b"}' % key)) == {"writeKey": shown}

    @pytest.mark.parametrize(
        "text",
        ['{"write_keys":"a-long-enough-text"}', '{"rewriteKey":"a-long-enough-text"}', '"write_key", "a-long-text"'],
    )
    def test_what_is_none_is_left(self, text: str) -> None:
        assert mask_write_keys(text.encode()).decode() == text

    PASSED_OVER = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if is_write_key(f"write{char}key"))
    LETTERS = st.tuples(*(st.sampled_from(pair) for pair in ("wW", "rR", "iI", "tT", "eE", "kK\u212a", "eE", "yY")))

    def test_every_character_that_a_near_miss_may_have(self) -> None:
        for char in self.PASSED_OVER:
            for ascii_only in (True, False):
                text = json.dumps({f"write{char}key": self.KEY}, ensure_ascii=ascii_only)
                for written in (text, json.dumps(text, ensure_ascii=ascii_only)):
                    assert "secret" not in mask_write_keys(written.encode()).decode()

    @given(LETTERS, st.lists(st.text(st.sampled_from(PASSED_OVER), max_size=2), min_size=9, max_size=9), st.booleans())
    def test_every_name_that_is_almost_write_key(
        self, letters: tuple[str, ...], gaps: list[str], is_ascii: bool
    ) -> None:
        """Those that the rules of a message take for a near miss."""
        name = "".join(gap + letter for gap, letter in zip(gaps, (*letters, ""), strict=True))
        assert is_write_key(name)
        text = json.dumps({name: self.KEY, "other": name}, ensure_ascii=is_ascii)
        assert json.loads(mask_write_keys(text.encode())) == {name: "a-ke…", "other": name}
        assert "secret" not in mask_write_keys(json.dumps(text, ensure_ascii=is_ascii).encode()).decode()


class TestMaskedHalves:
    TEXT = b'{"a":1,"write_key": "a-key-that-is-secret","b":2}'

    def test_wherever_it_is_divided(self) -> None:
        """No half shows a part of the key that the other masks."""
        for position in range(len(self.TEXT) + 1):
            before, after = masked_halves(self.TEXT, position)
            assert b"secret" not in before + after
            assert b"that" not in before + after
            assert before + after == mask_write_keys(self.TEXT)

    def test_without_one_it_is_divided_there(self) -> None:
        for position in range(10):
            assert masked_halves(b"0123456789", position) == (b"0123456789"[:position], b"0123456789"[position:])
