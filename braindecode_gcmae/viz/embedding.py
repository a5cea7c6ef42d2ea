"""Window embeddings in the plane."""

import numpy as np

from .style import GREY, MARKERS, PALETTE, new_axes

__all__ = ["plot_embedding"]


def plot_embedding(
    embeddings,
    labels=None,
    subjects=None,
    *,
    method: str = "pca",
    label_name: str = "",
    seed: int = 0,
    ax=None,
):
    """Scatter window embeddings in the plane, by label and subject.

    Colour is the label. Up to seven subjects have a marker each; of more, a cross marks
    each subject's mean and thin lines lead to its windows: bundles mean that the
    embedding tells people apart.

    Parameters
    ----------
    embeddings : ndarray, shape (n, D)
    labels : array (n,), optional
        Classes, or real numbers (on a colour scale).
    subjects : array (n,), optional
        Who each window is of.
    method : {"pca", "tsne"}
        scikit-learn's PCA, whose axes have a meaning and say how much of the variance
        they hold; or t-SNE, whose distances between clusters mean nothing.
    label_name : str
        Title of the legend or the colour bar.
    seed : int
        Of t-SNE.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes do not fit, there are too few windows, or values are not finite.
    """
    embeddings = np.asarray(embeddings, dtype=float)
    if embeddings.ndim != 2 or len(embeddings) < 3:
        raise ValueError(
            f"embeddings must be (n, D) with n >= 3, got shape {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite")
    for name, values in (("labels", labels), ("subjects", subjects)):
        if values is not None and np.shape(values) != embeddings.shape[:1]:
            raise ValueError(
                f"{name} must have one entry for each of the {len(embeddings)} "
                f"windows, got shape {np.shape(values)}"
            )
    points, axis_labels = _plane(embeddings, method, seed)
    (ax,) = new_axes(ax, 1, 5.8, 4.4)
    people = [] if subjects is None else _distinct(subjects)
    markers = np.zeros(len(points), dtype=int)
    if 0 < len(people) <= len(MARKERS):
        markers = np.array([people.index(s) for s in np.asarray(subjects).tolist()])
    elif people:
        _spokes(ax, points, np.asarray(subjects), people)
    if labels is None and 0 < len(people) <= len(MARKERS):
        labels, label_name, people = subjects, label_name or "subject", []
    entries = _scatter(ax, points, labels, markers, label_name)
    _legend(
        ax,
        entries,
        people,
        label_name,
        real=labels is not None and not entries,
        shaped=bool(markers.any()) and not people,
    )
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    if method == "tsne":
        ax.set(xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(0.06)
    return ax


def _distinct(values) -> list:
    """Different values, sorted, as plain Python objects."""
    return np.unique(np.asarray(values)).tolist()


def _plane(embeddings, method, seed):
    if method == "pca":
        from sklearn.decomposition import PCA

        wide = np.pad(embeddings, ((0, 0), (0, max(0, 2 - embeddings.shape[1]))))
        pca = PCA(2, svd_solver="full").fit(wide)
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        axes = [
            f"PC {i + 1} ({100 * s:.0f} % of variance)" for i, s in enumerate(shares)
        ]
        return pca.transform(wide), axes
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(embeddings) - 1) / 3)
        tsne = TSNE(2, perplexity=perplexity, init="random", random_state=seed)
        return tsne.fit_transform(embeddings), ["t-SNE 1", "t-SNE 2"]
    raise ValueError(f'method must be "pca" or "tsne", got {method!r}')


def _spokes(ax, points, subjects, people) -> None:
    from matplotlib.collections import LineCollection

    centres = np.array([points[subjects == person].mean(0) for person in people])
    ends = centres[np.searchsorted(people, subjects)]
    ax.add_collection(
        LineCollection(
            np.stack([ends, points], 1), colors="0.8", linewidths=0.6, zorder=1
        )
    )
    ax.plot(*centres.T, "x", color="0.25", markersize=6, zorder=4)


def _scatter(ax, points, labels, markers, label_name) -> list:
    """Draw the windows; gives the classes and their colours."""
    style = {"s": 26, "linewidths": 0.4, "edgecolors": "white", "zorder": 2}
    values = None if labels is None else np.asarray(labels)
    real = values is not None and values.dtype.kind == "f"
    classes = [] if values is None or real else _distinct(values)
    colours = np.array([PALETTE[0]] * len(points), dtype=object)
    for row, value in enumerate([] if not classes else values.tolist()):
        colours[row] = _colour(classes.index(value), classes)
    for which in np.unique(markers):
        rows, marker = markers == which, MARKERS[which]
        if real:
            limits = {"vmin": values.min(), "vmax": values.max()}
            shown = ax.scatter(
                *points[rows].T, c=values[rows], marker=marker, **limits, **style
            )
        else:
            ax.scatter(
                *points[rows].T, c=colours[rows].tolist(), marker=marker, **style
            )
    if real:
        bar = ax.figure.colorbar(shown, ax=ax)
        bar.set_label(label_name or "label")
        bar.outline.set_visible(False)
    return [(str(value), _colour(i, classes)) for i, value in enumerate(classes)]


def _legend(ax, classes, people, label_name, *, real, shaped) -> None:
    """One legend: classes by colour, then subjects by marker or their means."""
    blank = _key("none", "")
    rows = [(blank, label_name)] if classes and label_name else []
    for i, (name, colour) in enumerate(classes):
        rows.append((_key(colour, MARKERS[i] if shaped else "o"), name))
    if 0 < len(people) <= len(MARKERS):
        rows += [(blank, "subject")]
        rows += [(_key(GREY, MARKERS[i]), str(p)) for i, p in enumerate(people)]
    elif people:
        rows += [(_key("0.25", "x"), f"mean of a\nsubject ({len(people)})")]
    if rows:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        ax.legend(
            *zip(*rows, strict=True),
            frameon=False,
            fontsize=9,
            **({"loc": "best"} if real else place),
        )


def _key(colour, marker):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6)


def _colour(i, classes):
    if len(classes) <= len(PALETTE):
        return PALETTE[i]
    import matplotlib

    return matplotlib.colormaps["viridis"](i / (len(classes) - 1))
