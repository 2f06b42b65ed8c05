"""Opening images and video: limits before decoding, upright RGB out, and a digest of the content.

Owns files, bytes and data: URIs. Knows no models and no torch, and never fetches from the network. Video
needs PyAV, which is imported only when a video is read.
"""

from foveate.media.digest import digest_media
from foveate.media.frames import Video, video_of
from foveate.media.image import Image, ImageSource, image_size, open_image
from foveate.media.limits import MediaLimits, limits_table
from foveate.media.live import LiveFrame, LiveVideo, open_live
from foveate.media.video import read_video

__all__ = [
    "Image",
    "ImageSource",
    "LiveFrame",
    "LiveVideo",
    "MediaLimits",
    "Video",
    "digest_media",
    "image_size",
    "limits_table",
    "open_image",
    "open_live",
    "read_video",
    "video_of",
]
