"""Microscopes beyond widefield, as effective PSFs that answer what every model answers.

=============  ===================================================================================
light_sheet    I(z, x) h_em: widefield images, dimmed by the sheet at the emitter's height
confocal       h_exc (h_em averaged over the pinhole)
two_photon     h_exc^2, all light detected
sted           h_exc exp(-saturation donut) (h_em averaged over the pinhole)
ism            sum over detector elements of h_exc (h_em averaged over the element), each shifted
=============  ===================================================================================

A pixel of a scanned image belongs to the beam's position. **Scale:** the in-focus image of a
molecule on the coverslip by the same microscope free of aberrations and mask sums to 1 over an
infinite scan; anywhere else less light arrives, and the image sums to less: that is optical
sectioning. ``energies`` gives these sums. A light sheet is 1 in its middle at the waist.
"""

from simscope.optics.modalities.build import band_limit_per_nm, modality_model

__all__ = ["band_limit_per_nm", "modality_model"]
