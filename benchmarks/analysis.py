"""What is asked of the Datasets: a sentence on all-MiniLM-L6-v2, with the defaults."""

import attnxr
from attnxr.model import Model

SENTENCE = "Time flies like an arrow. Fruit flies like a banana."


class OfTables:
    """Functions that need no model."""

    def setup(self) -> None:
        model = attnxr.load_model("minilm")
        self.encodings = model.encode(SENTENCE, include=["hidden"])
        self.near = model.neighbors(self.encodings)
        self.stream = model.neighbors(self.encodings, of="hidden", space="embedding")

    def time_trajectories(self) -> None:
        attnxr.trajectories(self.near, self.stream)

    def time_overlap_of_layers(self) -> None:
        attnxr.overlap(self.near, between="layers")

    def time_overlap_of_heads(self) -> None:
        attnxr.overlap(self.near, between="heads")

    def time_origins(self) -> None:
        attnxr.origins(self.near, self.encodings)

    def time_roles(self) -> None:
        attnxr.roles(self.encodings)

    def time_sequence_neighbors(self) -> None:
        attnxr.sequence_neighbors(self.encodings)

    def time_words(self) -> None:
        attnxr.words(self.near)

    def time_compare(self) -> None:
        attnxr.comparison(self.near, self.near, self.encodings, self.encodings)

    def time_hubness(self) -> None:
        attnxr.hubness(self.near)


class OfAModel:
    """Functions that ask the model again; significance of one layer, as the app shows it."""

    def setup(self) -> None:
        self.model: Model = attnxr.load_model("minilm")
        self.encodings = self.model.encode(SENTENCE)
        self.layer = self.encodings.isel(layer=[3])
        self.near = self.model.neighbors(self.encodings)
        self.token = self.near.sel(head=3, position=2)
        attnxr.significance(self.model, self.layer)  # the moments are kept

    def time_significance_rotation(self) -> None:
        attnxr.significance(self.model, self.layer)

    def time_significance_heads(self) -> None:
        attnxr.significance(self.model, self.layer, null="heads")

    def time_significance_shuffled(self) -> None:
        attnxr.significance(self.model, self.layer, null="shuffled")

    def time_decompose(self) -> None:
        attnxr.decompose(self.model, self.encodings)

    def time_decompose_of_a_layer_with_p_values(self) -> None:
        attnxr.decompose(self.model, self.layer, draws=99)

    def time_replace(self) -> None:
        """Every head encoding by zero, one at a time."""
        self.model.replace(self.encodings, 0 * self.encodings.head_encoding)

    def time_effects(self) -> None:
        """Of one layer, by zero, the mean, the nearest and the own token."""
        attnxr.effects(self.model, self.layer)

    def time_csls(self) -> None:
        attnxr.csls_neighbors(self.model, self.encodings)

    def time_hubness_remedies(self) -> None:
        attnxr.hubness_remedies(self.model, self.encodings)

    def time_rogue_dimensions(self) -> None:
        attnxr.rogue_dimensions(self.model, self.encodings)

    def time_map_by_principal_components(self) -> None:
        attnxr.encoding_map(self.model, self.encodings, self.token)

    def time_map_by_tsne(self) -> None:
        attnxr.encoding_map(self.model, self.encodings, self.token, method="tsne")
