"""Labels with every kind of character that occurs in data from people and programs."""

from hypothesis import strategies as st

# Control, bidi, zero-width and combining characters, variation selectors, a lone surrogate, what begins a formula.
_AWKWARD = "\x00\r\n\t\x1b\x85\u2028\u200b\u200c\u200d\u200e\u202e\u2066\ufeff\u0301\u0489\ufe0f\ud800=+-@'\";®™"

LABELS = st.text(
    st.one_of(st.characters(), st.sampled_from(_AWKWARD), st.sampled_from("Cola coca КОЛА logo 365 & ()可乐👩🍳")),
    max_size=40,
)
