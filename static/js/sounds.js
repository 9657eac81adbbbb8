// Our sounds: short, quiet and made here, so that there is no file to load. Each tone: frequency, when it begins, how long it lasts.
const LOUDNESS = 0.08;
const LATE = 1000; // milliseconds after which a sound would only be confusing
const TONES = {
  drop: [[620, 0, 0.1], [930, 0.08, 0.22]],
  chime: [[523, 0, 0.5], [659, 0.12, 0.5], [784, 0.24, 0.8]],
};

let context;

// Browsers play nothing before somebody has clicked or typed on the page: then it stays silent.
export async function play(name) {
  const asked = Date.now();
  context ??= new AudioContext();
  await context.resume();
  if (Date.now() - asked > LATE) return;
  for (const [frequency, begin, length] of TONES[name] ?? TONES.drop) {
    const at = context.currentTime + begin;
    const tone = new OscillatorNode(context, { type: "sine", frequency });
    const volume = new GainNode(context, { gain: 0 });
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(LOUDNESS, at + 0.015);
    volume.gain.exponentialRampToValueAtTime(0.0001, at + length);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop(at + length);
  }
}
