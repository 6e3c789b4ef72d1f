// The figures as they come. The browser connects again by itself; where it gives up (an error's status), we do.

const AGAIN_MS = 3000;
export const SILENT_S = 5;

export class Stream {
  constructor(address, onFigures, onProblem, onHeard) {
    this.address = address;
    this.onFigures = onFigures;
    this.onProblem = onProblem;
    this.onHeard = onHeard;
    this.source = null;
    this.again = 0;
    this.heardAt = performance.now();
    this.hasHeard = false;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return this.close();
      this.heardAt = performance.now();
      this.open();
    });
  }

  open() {
    if (this.source !== null) return;
    this.source = new EventSource(this.address);
    this.source.onmessage = (event) => {
      this.onFigures(JSON.parse(event.data));
      this.heardAt = performance.now(); // of what could be shown
      this.hasHeard = true;
      this.onHeard();
    };
    this.source.addEventListener("problem", (event) => this.onProblem(JSON.parse(event.data)));
    this.source.onerror = () => {
      if (this.source === null || this.source.readyState !== EventSource.CLOSED) return;
      this.source = null;
      clearTimeout(this.again);
      this.again = setTimeout(() => this.open(), AGAIN_MS);
    };
  }

  // While nobody looks, nothing is asked for.
  close() {
    clearTimeout(this.again);
    if (this.source !== null) this.source.close();
    this.source = null;
  }

  get silentSeconds() {
    return (performance.now() - this.heardAt) / 1000;
  }
}
