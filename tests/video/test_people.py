"""People are told apart by bones and colours, in any pose and light."""

import numpy as np

from dgtalker.video.people import SAME_PERSON, bone_distances, group_people, person_distance, skin_and_hair_colors

RNG = np.random.default_rng(0)


def make_portrait(bones, skin=(0.8, 0.6, 0.5), hair=(0.3, 0.2, 0.1), light=1.0, turn=0.0, size=1.0):
    """Bone distances and colours of a head of points [478,3] that is turned by radians and scaled."""
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    points = size * bones @ rotation.T
    colors = np.array([*skin, *hair]) * light
    return np.concatenate([bone_distances(points[:, :2], points[:, 2]), colors])


BONES = RNG.uniform(-50, 50, (478, 3))
OTHER = BONES * [1.0, 1.12, 0.93] + RNG.normal(0, 2, (478, 3))


def test_bone_distances_are_free_of_pose_and_size():
    first, second = make_portrait(BONES), make_portrait(BONES, turn=0.6, size=2.5)
    assert np.allclose(first, second, atol=1e-4)


def test_light_changes_nobody_and_shape_and_hair_do():
    me = make_portrait(BONES)
    assert person_distance(me, make_portrait(BONES, light=0.6)) < 0.6
    assert person_distance(me, make_portrait(OTHER)) > SAME_PERSON
    assert person_distance(me, make_portrait(BONES, skin=(0.45, 0.28, 0.2), hair=(0.9, 0.9, 0.9))) > SAME_PERSON


def test_colors_that_are_not_seen_do_not_count():
    me, without = make_portrait(BONES), make_portrait(BONES)
    without[-3:] = np.nan
    assert person_distance(me, without) < 0.1


def test_the_one_seen_longest_is_person_0():
    runs = [make_portrait(OTHER, light=1.1), make_portrait(BONES), make_portrait(OTHER), make_portrait(BONES, turn=0.3)]
    assert group_people(runs, [100, 60, 20, 90]) == [1, 0, 1, 0]
    assert group_people(runs[:1], [5]) == [0] and group_people([], []) == []


def test_colors_are_those_of_skin_and_hair():
    frame = np.full((200, 200, 3), (90, 60, 30), np.uint8)
    frame[60:] = (200, 150, 120)
    landmarks = RNG.uniform(70, 150, (478, 2)).astype(np.float32)
    landmarks[10], landmarks[168] = (100, 70), (100, 110)
    colors = skin_and_hair_colors(frame, landmarks) * 255
    assert np.allclose(colors, [200, 150, 120, 90, 60, 30], atol=1)
    assert np.isnan(skin_and_hair_colors(frame, landmarks - [0, 80])[3:]).all()  # the hair is outside
