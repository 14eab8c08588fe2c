"""The files that are written beside a masked frame: their names, and what writes them."""


def product_files(frame, target, settings):
    """Return the files that are asked for beside a masked frame.

    Parameters
    ----------
    frame : `crattn_stage.fits.frame.ObservationFrame`
    target : path-like
        Of the masked frame.
    settings : `crattn_stage.products.settings.MaskSettings`

    Returns
    -------
    list of tuple
        (path, function that writes to a binary file), as for `crattn_stage.fits.frame.ObservationFrame.write`; the
        function is called when the frame is masked.
    """
    return []
