"""GCMAEStudent: the small model, for few electrodes."""

from braindecode.models.base import EEGModuleMixin
from torch import nn

from ..encoders import ChebyshevEncoder, GraphTransformerEncoder
from ..features import SpectralFeatures, TemporalFeatures
from ..graph import FunctionalGraph, MixedGraph
from .base import ElectrodeGraphModel
from .readouts import FlattenReadout, PositionReadout

__all__ = ["GCMAEStudent"]


class GCMAEStudent(ElectrodeGraphModel, EEGModuleMixin, nn.Module):
    r"""Electrode-graph network for few electrodes, the student of a distillation.

    :bdg-light:`Graph Neural Network` :bdg-info:`Attention/Transformer`
    :bdg-dark-line:`Channel`

    Reads the windows of a low-density cap, or takes its own electrodes, by name, out of
    high-density windows; both give the same bits. 27,000 parameters by default.

    .. rubric:: From a window to a class

    The window's Fourier coefficients pass learned temporal filters and signed graph
    filters; log powers are the node features. Attention over electrodes, with the
    electrode graph as a bias, makes node embeddings, which are pooled by position.
    ``final_layer`` reads these and the correlations between electrodes. No weight
    depends on the number of channels or samples, none on the sampling rate.

    Parameters
    ----------
    electrodes : list of str, optional
        Channels kept as nodes, by name; the input may hold all channels or just
        these. Default all.
    ch_names : list of str, optional
        Names of the input's channels, for callers without ``chs_info``.
    features : type of nn.Module
        Node features. This part and the next three may be :ref:`classes of your own
        <own-parts>`.
    graph : type of nn.Module
        Adjacency: which electrodes are linked, and how strongly.
    encoder : type of nn.Module
        Layers over the graph; also a torch-geometric convolution.
    readout : type of nn.Module
        Pooling of the nodes into one embedding of the window.
    emb_dim : int
        Width.
    depth : int
        Encoder layers.
    n_heads : int
        Attention heads.
    order : int
        Chebyshev order.
    n_bands : int
        Temporal filters.
    n_filters : int
        Signed graph filters before the power.
    f_min : float
        Lowest frequency in Hz.
    f_max : float
        Highest frequency in Hz.
    segment_seconds : float
        Welch segment in seconds.
    position_degree : int
        Degree of the spherical harmonics of electrode positions.
    activation : type of nn.Module
        Nonlinearity.
    drop_prob : float
        Dropout of units.
    electrode_dropout : float
        Dropout of whole electrodes (one by one, or neighbours together), in training
        with labels; pretraining drops nodes by itself.
    segment_dropout : float
        Probability that, in training, a Welch segment gives way to a random one of
        the same window: spectra are seen with the noise they have.
    second_moments : bool
        Pool the correlations between electrodes beside the nodes.

    Raises
    ------
    ValueError
        If names are unknown or duplicate, the window is too short, or ``f_max`` is
        above the Nyquist frequency.

    References
    ----------
    Wei et al. (2025), https://arxiv.org/abs/2411.19230

    Examples
    --------
    >>> import torch
    >>> from braindecode_gcmae import GCMAEStudent, montage_preset
    >>> names = montage_preset("motor-8")
    >>> model = GCMAEStudent(n_outputs=2, ch_names=names, sfreq=100, n_times=200)
    >>> model(torch.randn(4, 8, 200)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        electrodes: list[str] | None = None,
        ch_names: list[str] | None = None,
        features: type[nn.Module] = TemporalFeatures,
        graph: type[nn.Module] = MixedGraph,
        encoder: type[nn.Module] = GraphTransformerEncoder,
        readout: type[nn.Module] = PositionReadout,
        emb_dim: int = 32,
        depth: int = 2,
        n_heads: int = 4,
        order: int = 3,
        n_bands: int = 8,
        n_filters: int = 2,
        f_min: float = 5.0,
        f_max: float = 35.0,
        segment_seconds: float = 1.0,
        position_degree: int = 5,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.25,
        electrode_dropout: float = 0.0,
        segment_dropout: float = 0.5,
        second_moments: bool = True,
    ):
        if n_chans is None and chs_info is None and ch_names is not None:
            n_chans = len(ch_names)
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        self._build(
            ch_names,
            electrodes=electrodes,
            features=features,
            graph=graph,
            encoder=encoder,
            readout=readout,
            emb_dim=emb_dim,
            depth=depth,
            n_heads=n_heads,
            order=order,
            n_bands=n_bands,
            n_filters=n_filters,
            f_min=f_min,
            f_max=f_max,
            segment_seconds=segment_seconds,
            position_degree=position_degree,
            activation=activation,
            drop_prob=drop_prob,
            electrode_dropout=electrode_dropout,
            segment_dropout=segment_dropout,
            second_moments=second_moments,
        )

    @classmethod
    def paper_arguments(cls) -> dict:
        """The paper's tiny DGCNN (METHOD A.4): log-PSD nodes, correlation graph,
        four Chebyshev layers of width 64 and order 10, flattened readout.

        The weights are tied to one montage.
        """
        return {
            "features": SpectralFeatures,
            "graph": FunctionalGraph,
            "encoder": ChebyshevEncoder,
            "readout": FlattenReadout,
            "emb_dim": 64,
            "depth": 4,
            "n_heads": 4,
            "order": 10,
            "f_min": 8.0,
            "f_max": 14.0,
            "drop_prob": 0.1,
            "segment_dropout": 0.0,
            "second_moments": False,
        }
