// The camera: frames one by one, each taken once the last one has its answers.

/** A camera that is open; an Error has a text to show. */
export async function openCamera() {
	if (!navigator.mediaDevices) {
		throw new Error("Browsers give the camera only to pages from https:// or from this computer.");
	}
	const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
	const stream = await navigator.mediaDevices.getUserMedia({ video: size }).catch((error) => {
		throw new Error(`The camera cannot be used: ${error.message}`);
	});
	const canvas = document.createElement("canvas");
	const video = document.createElement("video");
	Object.assign(video, { muted: true, playsInline: true, srcObject: stream });
	await video.play();
	return {
		stream,

		/** The frame of now: {image, blob}. */
		async frame() {
			[canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
			canvas.getContext("2d").drawImage(video, 0, 0);
			const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
			return { blob, image: await createImageBitmap(canvas) };
		},

		stop() {
			for (const track of stream.getTracks()) track.stop();
		},
	};
}
