"""Pictures of synthetic people from a mesh renderer of its own (VTK through pyvista), not from our rasteriser.

Unlit textures times soft light per vertex; lashes and hair are cut out by their alpha; white background.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from dgtalker.camera import Camera
from dgtalker.errors import UserError
from dgtalker.head.template import rasterise_uv
from dgtalker.people.assets import SKIN_SIZE, PersonAssets
from dgtalker.people.person import Person, hair_shade, stubble_tint

LIGHT_RANGE = 2.0  # vertex light is stored in 0..1 and multiplied by this in the shader
ALPHA_TEST = {"hair": 0.35, "lashes": 0.35}
SUPERSAMPLE = 2


class _Scene:
    """One off-screen window with an actor per part; meshes are exchanged, not rebuilt."""

    def __init__(self):
        try:
            import pyvista
            import vtk
        except ImportError:
            raise UserError("Pictures of synthetic people need the 'pyvista' package: pip install pyvista.") from None
        self.vtk, self.pv = vtk, pyvista
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.renderer = vtk.vtkRenderer()
        self.renderer.SetBackground(1.0, 1.0, 1.0)
        self.window.AddRenderer(self.renderer)
        self.actors = {}
        self.owner: PersonRenderer | None = None  # whose textures are in the scene
        vtk.vtkObject.GlobalWarningDisplayOff()

    def actor(self, name: str):
        """The actor of a part; its shader scales the light and tests alpha."""
        if name not in self.actors:
            vtk = self.vtk
            mapper, actor = vtk.vtkPolyDataMapper(), vtk.vtkActor()
            mapper.SetColorModeToDirectScalars()
            mapper.SetScalarModeToUsePointData()
            actor.SetMapper(mapper)
            actor.GetProperty().LightingOff()
            actor.GetProperty().SetInterpolationToFlat()
            actor.ForceOpaqueOn()
            test = ALPHA_TEST.get(name, 0.0)
            actor.GetShaderProperty().AddFragmentShaderReplacement(
                "//VTK::TCoord::Impl",
                True,
                "//VTK::TCoord::Impl\n"
                f"  if (gl_FragData[0].a < {test:.3f}) discard;\n"
                f"  gl_FragData[0] = vec4(gl_FragData[0].rgb * {LIGHT_RANGE:.3f}, 1.0);\n",
                False,
            )
            self.renderer.AddActor(actor)
            self.actors[name] = actor
        return self.actors[name]

    def set_part(self, name: str, vertices, triangles, uv, light) -> None:
        """Set a part's mesh: vertices [V, 3], triangles [F, 3], uv [V, 2] (v up), light [V, 3] in 0..LIGHT_RANGE."""
        faces = np.concatenate([np.full((len(triangles), 1), 3), triangles], 1).ravel()
        mesh = self.pv.PolyData(np.ascontiguousarray(vertices, np.float32), faces)
        mesh.point_data.active_texture_coordinates = np.ascontiguousarray(uv, np.float32)
        mesh.point_data["light"] = np.clip(light * (255 / LIGHT_RANGE) + 0.5, 0, 255).astype(np.uint8)
        mesh.point_data.active_scalars_name = "light"
        actor = self.actor(name)
        actor.GetMapper().SetInputData(mesh)
        actor.VisibilityOn()

    def set_texture(self, name: str, image: np.ndarray) -> None:
        """Set the texture of a part: image [H, W, 3 or 4] in 0..1."""
        pixels = np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
        texture = self.pv.Texture(pixels)
        texture.InterpolateOn()
        texture.MipmapOn()
        self.actor(name).SetTexture(texture)

    def render(self, world_to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int) -> np.ndarray:
        """uint8 [height, width, 3] of the present scene, anti-aliased by supersampling."""
        wide, tall = width * SUPERSAMPLE, height * SUPERSAMPLE
        if self.window.GetSize() != (wide, tall):
            self.window.SetSize(wide, tall)
        rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
        position = -rotation.T @ translation
        camera = self.renderer.GetActiveCamera()
        camera.SetPosition(*position)
        camera.SetFocalPoint(*(position + rotation[2]))
        camera.SetViewUp(*(-rotation[1]))
        near, far = 1.0, 60.0
        k = intrinsics
        # OpenGL clip coordinates of an OpenCV camera: x' = 2u/W - 1, y' = 1 - 2v/H, looking along -z.
        projection = np.array(
            [
                [2 * k[0, 0] / width, 2 * k[0, 1] / width, 1 - 2 * k[0, 2] / width, 0],
                [0, 2 * k[1, 1] / height, 2 * k[1, 2] / height - 1, 0],
                [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
                [0, 0, -1, 0],
            ]
        )
        matrix = self.vtk.vtkMatrix4x4()
        for (row, column), value in np.ndenumerate(projection):
            matrix.SetElement(row, column, value)
        camera.SetExplicitProjectionTransformMatrix(matrix)
        camera.SetUseExplicitProjectionTransformMatrix(True)
        self.window.Render()
        from vtkmodules.util.numpy_support import vtk_to_numpy

        array = self.vtk.vtkUnsignedCharArray()
        self.window.GetRGBACharPixelData(0, 0, wide - 1, tall - 1, 0, array)  # ty: ignore[invalid-argument-type]  (the stub lacks this overload)
        image = vtk_to_numpy(array).reshape(tall, wide, 4)[::-1, :, :3]
        boxes = image.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3).astype(np.uint16)
        return ((boxes.sum((1, 3)) + SUPERSAMPLE**2 // 2) // SUPERSAMPLE**2).astype(np.uint8)


@lru_cache(maxsize=1)
def _scene() -> _Scene:
    return _Scene()


def _split_corners(triangles: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex for each (vertex, texture corner): vertex ids [N], triangles [F, 3] into them, uv [N, 2]."""
    corners, uv = triangles.reshape(-1), uv.reshape(-1, 2)
    keys = np.concatenate([corners[:, None], np.round(uv * 8192).astype(np.int64)], 1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return corners[first], inverse.reshape(-1, 3), uv[first]


class _MeshTables:
    """Splits of the template by texture corner, and static tables of the fitted parts."""

    def __init__(self, assets: PersonAssets):
        self.assets = assets
        names = assets.template.part_names
        face_part = assets.part[assets.triangles].max(1)  # sockets and cavity border on skin vertices
        self.skin = self._split(assets.part[assets.triangles].max(1) <= 2)
        self.eyes = self._split(
            (face_part == names.index("eyeball_left")) | (face_part == names.index("eyeball_right"))
        )
        self.brow_pixels = {}

    def _split(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _split_corners(self.assets.triangles[chosen], self.assets.template.texture_uv.numpy()[chosen])

    def brow_cover(self, index: int):
        """(rows, cols, coverage) of a brow style painted into the skin texture."""
        if index not in self.brow_pixels:
            assets = self.assets
            bound = assets.template.bind(assets.reference)
            middle = bound[assets.triangles].mean(1)
            near = (
                (np.abs(middle[:, 1] - 7.4) < 0.22) & (middle[:, 2] > 1.0) & (assets.part[assets.triangles].max(1) == 0)
            )
            faces = np.flatnonzero(near)
            uv = assets.template.texture_uv.numpy()[faces] * [1, -1] + [0, 1]
            triangle, bary = rasterise_uv(uv, SKIN_SIZE)
            rows, cols = np.nonzero(triangle >= 0)
            corners, weight = assets.triangles[faces[triangle[rows, cols]]], bary[rows, cols]
            position = (bound[corners] * weight[..., None]).sum(1)
            normal = (assets.normals(bound)[corners] * weight[..., None]).sum(1)
            cover = assets.brow_coverage(index, position, normal)
            some = cover > 0.01
            self.brow_pixels[index] = rows[some], cols[some], cover[some]
        return self.brow_pixels[index]


@lru_cache(maxsize=2)
def _tables(assets: PersonAssets) -> _MeshTables:
    return _MeshTables(assets)


def skin_texture(person: Person, tables: _MeshTables) -> np.ndarray:
    """The person's skin [1024, 1024, 3] in 0..1, brows painted in."""
    skins = person.assets.skins
    a, b = (skins[i].astype(np.float32) / 255 for i in person.skin)
    image = np.clip((a * (1 - person.skin_mix) + b * person.skin_mix) * person.tint.astype(np.float32), 0, 1)
    rows, cols, cover = tables.brow_cover(person.brow)
    cover = (cover * person.brow_strength)[:, None]
    image[rows, cols] += cover * (person.brow_color - image[rows, cols])
    return image


def _part_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    n = np.zeros_like(vertices)
    face = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]], vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
    )
    for i in range(3):
        np.add.at(n, triangles[:, i], face)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)


class PersonRenderer:
    """One person set up for rendering; `render(expression, camera)` may be called for every frame."""

    def __init__(self, person: Person):
        self.person, self.assets = person, person.assets
        self.tables = _tables(self.assets)
        self.scene = _scene()
        self.parts = {name: (part, *_split_corners(part.triangles, part.uv)) for name, part in self._parts().items()}
        self._bind_textures()

    def _parts(self):
        assets, person = self.assets, self.person
        parts = {"teeth": assets.teeth, "tongue": assets.tongue, "lashes": assets.lashes[person.lash][0]}
        if person.hair is not None:
            parts["hair"] = assets.hair[person.hair].part
        return parts

    def _bind_textures(self) -> None:
        scene, assets, person = self.scene, self.assets, self.person
        scene.owner = self
        for actor in scene.actors.values():
            actor.VisibilityOff()
        scene.set_texture("skin", skin_texture(person, self.tables))
        scene.set_texture("eyes", assets.eyes[person.eye])
        scene.set_texture("teeth", assets.teeth_image)
        scene.set_texture("tongue", assets.tongue_image)
        alpha = assets.lashes[person.lash][1]
        lash = np.broadcast_to(person.brow_color * 0.5, (*alpha.shape, 3))
        scene.set_texture("lashes", np.concatenate([lash, alpha[..., None]], -1))
        if person.hair is not None:
            style = assets.hair[person.hair]
            color = person.hair_color * hair_shade(style.shade)[..., None]
            scene.set_texture("hair", np.concatenate([color, style.alpha[..., None]], -1))

    def pose(self, expression: np.ndarray) -> np.ndarray:
        """Put the meshes of one expression into the scene; returns the template's vertices [V, 3]."""
        if self.scene.owner is not self:
            self._bind_textures()
        person, assets, scene = self.person, self.assets, self.scene
        vertices = person.vertices(expression)
        light = person.irradiance(assets.normals(vertices)) * assets.occlusion[:, None]
        light *= stubble_tint(assets.stubble * person.stubble, person)
        for name in ("skin", "eyes"):
            ids, triangles, uv = getattr(self.tables, name)
            scene.set_part(name, vertices[ids], triangles, uv, light[ids])
        for name, (part, ids, triangles, uv) in self.parts.items():
            points = person.fit(part, expression)
            if name == "hair":
                # Hair cards point anywhere; light them as the shell they form, and end them at the neck's cut.
                normals = points - np.array([0, 0.15, -0.15])
                normals /= np.linalg.norm(normals, axis=1, keepdims=True)
                triangles = self._hair_above_neck(points[ids], triangles)
                shade = person.irradiance(normals)
            else:
                shade = (
                    person.irradiance(_part_normals(points, part.triangles)) * self._part_occlusion(name, part)[:, None]
                )
            scene.set_part(name, points[ids], triangles, uv, np.clip(shade, 0, LIGHT_RANGE)[ids])
        return vertices

    def _hair_above_neck(self, points, triangles):
        plane = np.array(self.assets.template.neck_plane)
        return triangles[(points[triangles] @ plane[:3] + plane[3] > -0.02).all(1)]

    def _part_occlusion(self, name: str, part) -> np.ndarray:
        if name == "lashes":
            return np.ones(len(part.index))
        index = self.assets.template.part_index("tongue" if name == "tongue" else "teeth_upper")
        reference = part.fit(self.assets.reference)
        return self.assets.occlusion_at(reference, np.full(len(reference), index))

    def render(self, expression: np.ndarray, camera: Camera, background=(1.0, 1.0, 1.0)) -> np.ndarray:
        """uint8 [H, W, 3] for ARKit values [52] and one camera."""
        self.pose(expression)
        return self.view(camera, background)

    def view(self, camera: Camera, background: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
        """The pose last set, from another camera; background RGB in 0..1."""
        self.scene.renderer.SetBackground(*background)
        return self.scene.render(
            camera.world_to_camera.double().numpy(), camera.intrinsics.double().numpy(), camera.width, camera.height
        )


def capture(person: Person, expressions: np.ndarray, cameras: Camera) -> np.ndarray:
    """Pictures uint8 [C, H, W, 3] of a person with ARKit values [C, 52], one row per camera of the batch."""
    renderer, previous, images = PersonRenderer(person), None, []
    expressions = np.asarray(expressions.detach().cpu() if isinstance(expressions, torch.Tensor) else expressions)
    for i, row in enumerate(expressions):
        if previous is None or not np.array_equal(row, previous):
            renderer.pose(row)
            previous = row
        images.append(renderer.view(cameras[i]))
    return np.stack(images)
