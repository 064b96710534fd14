// The camera: frames one by one, each taken when the page is ready for it.

const TEXTS = {
  NotAllowedError: "The browser does not let this page use the camera: allow it beside the address.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

/** A camera that is open. */
export class Camera {
  constructor(stream) {
    this.stream = stream;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.video.srcObject = stream;
    this.canvas = document.createElement("canvas");
  }

  /** Open a camera; an Error has a text to show. */
  static async open() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the camera only to pages from https:// or from this computer.");
    }
    let stream;
    try {
      const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: size });
    } catch (error) {
      throw new Error(TEXTS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    const camera = new Camera(stream);
    await camera.video.play();
    return camera;
  }

  /** Whether it still gives frames. */
  get on() {
    return this.stream.active && this.stream.getVideoTracks()[0].readyState === "live";
  }

  /** The frame of now: {image, blob}. */
  async frame() {
    const { canvas, video } = this;
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    return { blob, image: await createImageBitmap(canvas) };
  }

  stop() {
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}
