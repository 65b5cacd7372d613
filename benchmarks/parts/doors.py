"""A forward pass through each door that keeps what every head wrote, against one of the same model alone."""

import torch
from transformers import AutoConfig, AutoModel

from attnxr.probe import capture
from attnxr.probe.window import Window
from benchmarks.parts.measure import interleaved, say
from benchmarks.parts.report import Report, Table, in_seconds, times

LIMIT = 1.5  # of the time of a pass without capture
_SIZES = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 4000}
# As wide: in a narrow model the fixed costs of each torch function are most of the time, which no real model's are.
_SHALLOW = _SIZES | {"num_hidden_layers": 2}
_ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_FAMILIES = {"roberta": "first", "gpt2": "first", "mpnet": "second", "bloom": "second", "gptj": "second"}


def run(quick: bool) -> Report:
    """Measure passes over 128 tokens through models of RoBERTa-base's size, by turns with bare ones."""
    sizes, length = (_SHALLOW, 64) if quick else (_SIZES, 128)
    ids = torch.randint(5, 200, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    table = Table(f"One forward pass, {length} tokens", ("family", "door", "alone", "with capture", "ratio"))
    ratios = {}
    for family, door in _FAMILIES.items():
        say(family)
        own = {"rotary_dim": 16} if family == "gptj" else {}
        config = AutoConfig.for_model(family, **sizes, **own, max_position_embeddings=512, **_ENDS)
        hf_model = AutoModel.from_config(config).eval()
        window = Window(hf_model)
        if window.by_functions != (door == "second"):
            raise RuntimeError(f"{family} does not go through the {door} door.")

        def alone(hf_model: torch.nn.Module = hf_model) -> None:
            batch = torch.tensor([ids])
            with torch.no_grad():
                hf_model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False)

        bare, watched = interleaved(
            {"alone": alone, "with": lambda window=window: capture.encode(window, ids, (), None)}, 6
        ).values()
        ratios[family] = watched / bare
        table.rows.append((family, door, in_seconds(bare), in_seconds(watched), times(ratios[family])))
    report = Report([table])
    report.target("doors", ratios, LIMIT, "× a pass alone")
    return report
