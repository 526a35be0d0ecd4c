"""Model-based head tracking: landmarks -> identity shape, expression and camera per frame.

One identity shape for a whole data set; per frame 52 ARKit units and a rigid camera. The unknowns are solved together
by robust Gauss-Newton over the 478 landmark correspondences of the template, where the frames' unknowns are
eliminated from the shape's normal equations (Schur complement). MediaPipe's own ARKit scores regularise the
expression. The focal length cannot be estimated from a talking head, so it is fixed such that the head's median
distance is that of the portrait camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

DISTANCE = 12.0  # decimetres, as in camera.orbit_camera

# MediaPipe's face oval: these correspondences slide along the silhouette.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
EYE_CORNERS = (33, 133, 362, 263, 7, 246, 173, 155, 249, 466, 398, 382)
NOSE_ROOT, NOSE_BASE = 168, 2
EYELIDS = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398,
)  # fmt: skip


@dataclass(frozen=True)
class TrackingConfig:
    """How the tracker weighs its terms."""

    noise: float = 0.008  # landmark noise, fraction of the face size; also the scale of the robust loss
    score_std: float = 0.3  # standard deviation of a unit from MediaPipe's score
    offset_std: float = 0.04  # dm, how far a landmark may sit from its average place on the template
    shape_frames: int = 200  # frames that determine the identity shape
    shape_steps: int = 5
    frame_steps: int = 4
    batch: int = 64  # frames solved together
    smooth: bool = True  # smooth the camera inside a shot, as much as its noise asks for


@dataclass(frozen=True)
class LandmarkModel:
    """The template restricted to the landmarks."""

    mean: Tensor  # [L,3] dm
    shape_basis: Tensor  # [Ks,L,3]
    expression_basis: Tensor  # [E,L,3]
    normals: Tensor  # [L,3] unit, of the mean head
    weights: Tensor  # [L] trust in each landmark
    rigidity: Tensor  # [L] trust in each landmark as a witness of the head's motion

    @staticmethod
    def from_template(template) -> LandmarkModel:
        """Restrict a HeadTemplate to its 478 landmarks."""
        corners = template.triangles.long()[template.landmark_triangle.clamp_min(0).long()]  # [L,3]
        bary = template.landmark_bary.float()

        def at_landmarks(values: Tensor) -> Tensor:  # [..., V, 3] -> [..., L, 3]
            return (values.float()[..., corners, :] * bary[..., None]).sum(-2)

        a, b, c = template.vertices.float()[corners].unbind(1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        weights = torch.ones(len(corners))
        weights[list(FACE_OVAL)] = 0.2
        weights[list(LIPS + EYELIDS)] = 2.0
        weights[template.landmark_triangle < 0] = 0.0  # no place on the template
        mean, expression_basis = at_landmarks(template.vertices), at_landmarks(template.expression_basis)
        rigidity = _rigidity(mean, expression_basis, weights)
        return LandmarkModel(mean, at_landmarks(template.shape_basis), expression_basis, normals, weights, rigidity)


def _rigidity(mean: Tensor, expression_basis: Tensor, weights: Tensor) -> Tensor:
    """Trust [L] in each landmark as a witness of the head's motion.

    Little where any unit moves it, and little on the nose: MediaPipe draws the nose higher when the jaw opens (0.4 of
    256 pixels against registration of the picture itself), while the corners of the eyes stay true (0.08).
    """
    motion = expression_basis.norm(dim=-1).amax(0)
    rigidity = weights.clamp(max=1) * torch.exp(-0.5 * (motion / 0.05) ** 2)
    top, bottom = mean[NOSE_ROOT, 1], mean[NOSE_BASE, 1] - 0.05
    nose = (mean[:, 0].abs() < 0.25) & (mean[:, 1] < top + 0.02) & (mean[:, 1] > bottom)
    rigidity[nose] *= 0.1
    rigidity[list(EYE_CORNERS)] = 10.0
    return rigidity


@dataclass(frozen=True)
class IdentityFit:
    """What is the same in all frames of a person."""

    shape: Tensor  # [Ks]
    offsets: Tensor  # [L,3] dm, this person's landmarks relative to the template's correspondences
    focal: float  # source picture heights


@dataclass(frozen=True)
class Track:
    """Per-frame result. Rotation and translation take world to camera coordinates (OpenCV)."""

    rotation: Tensor  # [T,3,3]
    translation: Tensor  # [T,3] dm
    expression: Tensor  # [T,E]
    error: Tensor  # [T] mean landmark distance, pixels of the source

    def world_to_camera(self) -> Tensor:
        """[T,4,4]."""
        matrix = torch.eye(4).repeat(len(self.rotation), 1, 1)
        matrix[:, :3, :3], matrix[:, :3, 3] = self.rotation, self.translation
        return matrix


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Axis-angle [...,3] to rotation matrices [...,3,3]."""
    return torch.matrix_exp(_cross_matrix(vector))


def vector_from_rotation(rotation: Tensor) -> Tensor:
    """Rotation matrices [...,3,3] (angles well below pi) to axis-angle [...,3]."""
    skew = rotation - rotation.transpose(-1, -2)
    vector = 0.5 * torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)  # axis * sin(angle)
    sine = vector.norm(dim=-1, keepdim=True)
    cosine = 0.5 * (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1)
    angle = torch.atan2(sine, cosine)
    return vector * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), torch.ones_like(sine))


def _cross_matrix(v: Tensor) -> Tensor:
    zero = torch.zeros_like(v[..., 0])
    x, y, z = v.unbind(-1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*v.shape[:-1], 3, 3)


@dataclass(frozen=True)
class _Frames:
    """Observations and current unknowns of a batch of frames."""

    observed: Tensor  # [T,L,2] pixels relative to the principal point
    prior: Tensor  # [T,E] MediaPipe's scores in template units
    focal: Tensor  # [T] pixels
    noise: Tensor  # [T] pixels
    rotation: Tensor  # [T,3,3]
    translation: Tensor  # [T,3]
    expression: Tensor  # [T,E]

    def __getitem__(self, index) -> _Frames:
        return _Frames(*(getattr(self, f)[index] for f in self.__dataclass_fields__))


class Tracker:
    """Fits the landmark model to landmark sequences. All arguments are on the CPU, float32."""

    def __init__(self, model: LandmarkModel, config: TrackingConfig = TrackingConfig()):
        self.model, self.config = model, config

    def fit_identity(self, landmarks: Tensor, scores: Tensor, sizes: Tensor) -> IdentityFit:
        """Shape, landmark offsets and focal length of one person.

        landmarks [T,L,2] pixels of the source; scores [T,E]; sizes [T,2] width and height of the source pictures.
        """
        count = min(self.config.shape_frames, len(landmarks))
        chosen = torch.linspace(0, len(landmarks) - 1, count).round().long()
        landmarks, scores, sizes = landmarks[chosen], scores[chosen], sizes[chosen]
        shape = torch.zeros(len(self.model.shape_basis))
        offsets = torch.zeros_like(self.model.mean)
        focal = 3.75
        for steps in (2, 2, self.config.shape_steps):  # the head's distance decides on the focal length, and vice versa
            frames = self._initialise(landmarks, scores, sizes, IdentityFit(shape, offsets, focal))
            for _ in range(steps):
                frames, shape = self._shape_step(frames, shape, offsets)
            focal *= DISTANCE / float(frames.translation[:, 2].median())
        for _ in range(2):
            offsets = self._offsets(frames, shape)
            for _ in range(2):
                frames, shape = self._shape_step(frames, shape, offsets)
        return IdentityFit(shape, offsets, focal)

    def track(
        self,
        landmarks: Tensor,
        scores: Tensor,
        size: tuple[int, int],
        identity: IdentityFit,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Track:
        """Camera and expression of the frames of one shot, with the identity fixed.

        landmarks [T,L,2] pixels of the source; scores [T,E]; size (width, height) of the source pictures.
        """
        sizes = torch.tensor(size, dtype=torch.float32).expand(len(landmarks), 2)
        everything = self._initialise(landmarks, scores, sizes, identity)
        geometry = self._geometry(identity.shape, identity.offsets)

        def solve(frames: _Frames, steps: int, fixed_camera: bool) -> _Frames:
            parts = []
            for start in range(0, len(landmarks), self.config.batch):
                part = frames[slice(start, start + self.config.batch)]
                for _ in range(steps):
                    part = self._frame_step(part, geometry, fixed_camera)
                parts.append(part)
            return _Frames(*(torch.cat([getattr(p, f) for p in parts]) for f in _Frames.__dataclass_fields__))

        frames = solve(everything, self.config.frame_steps, fixed_camera=False)
        # A joint solution confuses a nod with an opening jaw. So the camera follows the rigid landmarks, and the
        # expression explains the rest.
        for _ in range(2):
            for _ in range(2):
                frames = self._camera_step(frames, geometry)
            frames = solve(frames, 1, fixed_camera=True)
        if self.config.smooth and len(landmarks) > 4:
            rotation, translation = smooth_camera(frames.rotation, frames.translation)
            frames = replace(frames, rotation=rotation, translation=translation)
            frames = solve(frames, 2, fixed_camera=True)
        residual = self._project(frames, geometry)[0] - frames.observed
        return Track(frames.rotation, frames.translation, frames.expression, residual.norm(dim=-1).mean(-1))

    def _initialise(self, landmarks: Tensor, scores: Tensor, sizes: Tensor, identity: IdentityFit) -> _Frames:
        """Initial cameras from a scaled orthographic fit (Procrustes in the picture plane plus depth from scale)."""
        focal = identity.focal * sizes[:, 1]
        observed = landmarks - 0.5 * sizes[:, None]
        face_size = (landmarks.amax(1) - landmarks.amin(1)).amax(-1)
        prior = scores
        model = self._geometry(identity.shape, identity.offsets) + torch.einsum(
            "te,elc->tlc", prior, self.model.expression_basis
        )
        rotation, scale, centre_world, centre_image = _orthographic_pose(model, observed, self.model.weights)
        depth = focal / scale
        centre = torch.cat([centre_image / scale[:, None], depth[:, None]], -1)
        translation = centre - torch.einsum("tij,tj->ti", rotation, centre_world)
        return _Frames(observed, prior, focal, self.config.noise * face_size, rotation, translation, prior.clone())

    def _geometry(self, shape: Tensor, offsets: Tensor) -> Tensor:
        return self.model.mean + torch.einsum("k,klc->lc", shape, self.model.shape_basis) + offsets

    def _project(self, frames: _Frames, geometry: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projected landmarks of the current estimate.

        Returns pixels [T,L,2] relative to the principal point, their derivative by camera coordinates [T,L,2,3] and the
        rotated points [T,L,3].
        """
        points = geometry + torch.einsum("te,elc->tlc", frames.expression, self.model.expression_basis)
        rotated = torch.einsum("tij,tlj->tli", frames.rotation, points)
        camera = rotated + frames.translation[:, None]
        inverse = 1 / camera[..., 2].clamp_min(0.1)
        pixels = frames.focal[:, None, None] * camera[..., :2] * inverse[..., None]
        jacobian = torch.zeros(*camera.shape[:2], 2, 3)
        jacobian[..., 0, 0] = jacobian[..., 1, 1] = frames.focal[:, None] * inverse
        jacobian[..., :2, 2] = -pixels * inverse[..., None]
        return pixels, jacobian, rotated

    def _linearise(
        self, frames: _Frames, geometry: Tensor, fixed_camera: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weighted least-squares problem at the current estimate.

        Returns the residual [T,2L], its Jacobian [T,2L,P] by the frame's unknowns (expression, then rotation and
        translation), the weights [T,L] and the derivative of the weighted pixels by world points [T,L,2,3].
        """
        pixels, by_camera, rotated = self._project(frames, geometry)
        residual = pixels - frames.observed
        facing = -torch.einsum("tij,lj->tli", frames.rotation, self.model.normals)[..., 2]
        visible = ((facing + 0.1) / 0.4).clamp(0.05, 1)
        squared = (residual / frames.noise[:, None, None]).square().sum(-1)
        robust = 1 / (1 + squared / 9)  # Cauchy, scale three times the noise
        weights = (self.model.weights * visible * robust).sqrt() / frames.noise[:, None]
        by_camera = by_camera * weights[..., None, None]
        by_world = by_camera @ frames.rotation[:, None]
        columns = [torch.einsum("tlij,elj->tlie", by_world, self.model.expression_basis)]
        if not fixed_camera:
            columns += [by_camera @ -_cross_matrix(rotated), by_camera]
        return (residual * weights[..., None]).flatten(1), torch.cat(columns, -1).flatten(1, 2), weights, by_world

    def _normal_equations(self, frames: _Frames, residual: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        """Normal equations of the frames with the score prior: [T,P,P], [T,P]."""
        # Landmarks are correlated; counting each as independent would drown the prior.
        count = 0.2
        matrix = count * jacobian.transpose(1, 2) @ jacobian
        vector = -count * torch.einsum("tnp,tn->tp", jacobian, residual)
        units = frames.expression.shape[1]
        weight = self.config.score_std**-2
        matrix.diagonal(dim1=1, dim2=2)[:, :units] += weight
        vector[:, :units] -= weight * (frames.expression - frames.prior)
        matrix.diagonal(dim1=1, dim2=2)[:] *= 1 + 1e-5
        return matrix, vector

    def _apply_step(self, frames: _Frames, step: Tensor) -> _Frames:
        units = frames.expression.shape[1]
        expression = (frames.expression + step[:, :units]).clamp(-0.15, 1.3)
        if step.shape[1] == units:
            return replace(frames, expression=expression)
        turn = rotation_from_vector(step[:, units : units + 3].clamp(-0.5, 0.5))
        translation = frames.translation + step[:, units + 3 :]
        return replace(frames, expression=expression, rotation=turn @ frames.rotation, translation=translation)

    def _frame_step(self, frames: _Frames, geometry: Tensor, fixed_camera: bool) -> _Frames:
        residual, jacobian, _, _ = self._linearise(frames, geometry, fixed_camera)
        matrix, vector = self._normal_equations(frames, residual, jacobian)
        step = torch.cholesky_solve(vector[..., None], torch.linalg.cholesky(matrix))[..., 0]
        return self._apply_step(frames, step)

    def _camera_step(self, frames: _Frames, geometry: Tensor) -> _Frames:
        """Gauss-Newton step of the cameras alone, by the rigid landmarks."""
        pixels, by_camera, rotated = self._project(frames, geometry)
        residual = pixels - frames.observed
        squared = (residual / frames.noise[:, None, None]).square().sum(-1)
        weights = (self.model.rigidity / (1 + squared / 9))[..., None]
        jacobian = torch.cat([by_camera @ -_cross_matrix(rotated), by_camera], -1).flatten(1, 2)  # [T,2L,6]
        weighted = (jacobian.unflatten(1, (-1, 2)) * weights[..., None]).flatten(1, 2)
        matrix = weighted.transpose(1, 2) @ jacobian
        matrix.diagonal(dim1=1, dim2=2)[:] *= 1 + 1e-5
        vector = -torch.einsum("tnp,tn->tp", weighted, residual.flatten(1))
        step = torch.linalg.solve(matrix, vector)
        turn = rotation_from_vector(step[:, :3].clamp(-0.5, 0.5))
        translation = frames.translation + step[:, 3:]
        return replace(frames, rotation=turn @ frames.rotation, translation=translation)

    def _shape_step(self, frames: _Frames, shape: Tensor, offsets: Tensor) -> tuple[_Frames, Tensor]:
        """One joint Gauss-Newton step over the shape and all frames, by the Schur complement."""
        residual, jacobian, _, by_world = self._linearise(frames, self._geometry(shape, offsets), False)
        by_shape = torch.einsum("tlij,klj->tlik", by_world, self.model.shape_basis).flatten(1, 2)
        matrix, vector = self._normal_equations(frames, residual, jacobian)
        count = 0.2
        cross = count * jacobian.transpose(1, 2) @ by_shape  # [T,P,K]
        shape_matrix = count * torch.einsum("tnk,tnj->kj", by_shape, by_shape)
        shape_vector = -count * torch.einsum("tnk,tn->k", by_shape, residual)
        factor = torch.linalg.cholesky(matrix)
        solved = torch.cholesky_solve(torch.cat([cross, vector[..., None]], -1), factor)
        # The shape prior counts once per frame: systematic misfit does not average out over frames.
        prior = 0.3 * len(frames.observed)
        shape_matrix = shape_matrix - torch.einsum("tpk,tpj->kj", cross, solved[..., :-1])
        shape_matrix.diagonal()[:] += prior
        shape_vector = shape_vector - torch.einsum("tpk,tp->k", cross, solved[..., -1]) - prior * shape
        change = torch.linalg.solve(shape_matrix, shape_vector)
        step = solved[..., -1] - torch.einsum("tpk,k->tp", solved[..., :-1], change)
        return self._apply_step(frames, step), (shape + change).clamp(-4, 4)

    def _offsets(self, frames: _Frames, shape: Tensor) -> Tensor:
        """Where this person's landmarks sit relative to the template's correspondences: ridge regression [L,3]."""
        zero = torch.zeros_like(self.model.mean)
        residual, _, _, by_world = self._linearise(frames, self._geometry(shape, zero), True)
        residual = residual.reshape(*by_world.shape[:3])
        matrix = torch.einsum("tlij,tlik->ljk", by_world, by_world) / len(residual)
        vector = -torch.einsum("tlij,tli->lj", by_world, residual) / len(residual)
        return torch.linalg.solve(matrix + torch.eye(3) / self.config.offset_std**2, vector)


def _orthographic_pose(model: Tensor, observed: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaled orthographic pose: rotation [T,3,3], scale [T] (pixels per dm), weighted centres [T,3] and [T,2]."""
    weights = weights / weights.sum()
    centre_world = torch.einsum("l,tlc->tc", weights, model)
    centre_image = torch.einsum("l,tlc->tc", weights, observed)
    x = (model - centre_world[:, None]) * weights[:, None].sqrt()
    y = (observed - centre_image[:, None]) * weights[:, None].sqrt()
    rows = torch.linalg.solve(x.transpose(1, 2) @ x + 1e-6 * torch.eye(3), x.transpose(1, 2) @ y).transpose(1, 2)
    scale = rows.norm(dim=-1).mean(-1)
    u, _, v = torch.linalg.svd(rows, full_matrices=False)
    plane = u @ v  # nearest pair of orthonormal rows [T,2,3]
    third = torch.linalg.cross(plane[:, 0], plane[:, 1])
    return torch.cat([plane, third[:, None]], 1), scale, centre_world, centre_image


def smooth_camera(rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth the cameras of one shot: rotation [T,3,3], translation [T,3].

    Each of the six parameters (rotation vector about the mean, direction of the head's centre, log depth) gets a
    Whittaker smoother whose strength is chosen by generalised cross-validation, so clean motion stays as it is.
    """
    u, _, v = torch.linalg.svd(rotation.mean(0))
    mean = u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ v))])) @ v
    turn = vector_from_rotation(rotation @ mean.T)
    depth = translation[:, 2:]
    values = torch.cat([turn, translation[:, :2] / depth, depth.log()], -1).double().numpy()
    values = torch.from_numpy(smooth_signals(values)).float()
    depth = values[:, 5:].exp()
    return rotation_from_vector(values[:, :3]) @ mean, torch.cat([values[:, 3:5] * depth, depth], -1)


def smooth_signals(values: np.ndarray) -> np.ndarray:
    """Whittaker smoothing (third differences) of the columns of values [T,C], strength by generalised cross-validation.

    Source: Garcia, "Robust smoothing of gridded data in one and higher dimensions", 2010 (solution in the DCT domain).
    """
    from scipy.fft import dct, idct

    count = len(values)
    roughness = (2 - 2 * np.cos(np.pi * np.arange(count) / count)) ** 3
    spectrum = dct(values, axis=0, norm="ortho")
    result = np.empty_like(values)
    for column in range(values.shape[1]):
        best = (np.inf, None)
        for strength in np.geomspace(1e-3, 1e5, 49):
            gain = 1 / (1 + strength * roughness)
            loss = np.mean(((1 - gain) * spectrum[:, column]) ** 2) / (1 - gain.mean()) ** 2
            best = min(best, (loss, strength))
        gain = 1 / (1 + best[1] * roughness)
        result[:, column] = idct(gain * spectrum[:, column], norm="ortho")
    return result
