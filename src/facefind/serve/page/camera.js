// The camera: frames one by one, each taken once the last one has its answers.

const TEXTS = {
	NotAllowedError: "The browser does not let this page use the camera.",
	NotFoundError: "No camera was found.",
	NotReadableError: "Another program uses the camera.",
};

/** A camera that is open. */
export class Camera {
	constructor(stream) {
		this.stream = stream;
		this.video = Object.assign(document.createElement("video"), { muted: true, srcObject: stream });
		this.video.playsInline = true;
		this.canvas = document.createElement("canvas");
	}

	/** Open a camera; an Error has a text to show. */
	static async open() {
		if (!navigator.mediaDevices) {
			throw new Error("Browsers give the camera only to pages from https:// or from this computer.");
		}
		const video = { width: { ideal: 1280 }, height: { ideal: 720 } };
		const stream = await navigator.mediaDevices.getUserMedia({ video }).catch((error) => {
			throw new Error(TEXTS[error.name] ?? `The camera cannot be used: ${error.message}`);
		});
		const camera = new Camera(stream);
		await camera.video.play();
		return camera;
	}

	/** Whether it still gives frames. */
	get on() {
		return this.stream.active;
	}

	/** The frame of now: {image, blob}. */
	async frame() {
		const { canvas, video } = this;
		[canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
		canvas.getContext("2d").drawImage(video, 0, 0);
		const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
		return { blob, image: await createImageBitmap(canvas) };
	}

	stop() {
		for (const track of this.stream.getTracks()) track.stop();
	}
}
