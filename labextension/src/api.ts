/** The REST API below `zerostart/api/`; `jupyter/server/schema/openapi.yaml` describes it. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { IListed } from './model';

export interface ISnapshot {
  readonly name: string;
  readonly id: string;
  readonly tier: string;
  readonly created: number;
  readonly notebook: string | null;
  readonly bytes: number;
  readonly gpu_bytes: number;
  readonly parent: string | null;
  /** Seconds of processor time that a restore saves. */
  readonly kernel_seconds?: number;
  /** Seconds that a restore is expected to take. */
  readonly restore_seconds?: number;
  /** Why it has its tier. */
  readonly reason?: string;
  /** False for one that was imported, whose code nobody has agreed to yet. */
  readonly trusted?: boolean;
}

/** A restore that has happened; its id is also in the event that tells other tabs. */
export interface IRestored {
  readonly id: string;
  readonly kernel: string;
  readonly snapshot: string;
  readonly seconds: number;
}

export interface IGpu {
  readonly ok: boolean;
  readonly reason: string;
  readonly remedy: string;
  readonly devices: readonly {
    readonly index: number;
    readonly name: string;
    readonly used: number;
    readonly total: number;
  }[];
  readonly kernels: readonly {
    readonly kernel: string;
    readonly device: number;
    readonly bytes: number;
  }[];
  /** Kernels whose GPU memory is in the host's for now. */
  readonly parked: readonly { readonly kernel: string; readonly bytes: number }[];
}

export interface ICapability {
  readonly name: string;
  readonly ok: boolean;
  readonly reason: string;
  readonly remedy: string;
}

/** The server said no: what happened, and the next step. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly remedy: string,
    readonly status: number
  ) {
    super(`${message} ${remedy}`.trim());
  }
}

/** The server's side of the panel. Every method rejects with a `Refusal` that can be shown. */
export class Api {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  async activity(): Promise<readonly IListed[]> {
    return (await this.ask<{ sources: IListed[] }>('GET', ['activity'])).sources;
  }

  async snapshots(): Promise<readonly ISnapshot[]> {
    return (await this.ask<{ snapshots: ISnapshot[] }>('GET', ['snapshots'])).snapshots;
  }

  async doctor(): Promise<readonly ICapability[]> {
    return (await this.ask<{ capabilities: ICapability[] }>('GET', ['doctor'])).capabilities;
  }

  gpu(): Promise<IGpu> {
    return this.ask('GET', ['gpu']);
  }

  restore(kernel: string, snapshot: string): Promise<IRestored> {
    return this.ask('POST', ['kernels', kernel, 'restore'], { snapshot });
  }

  cancel(kernel: string, operation: string): Promise<void> {
    return this.ask('POST', ['kernels', kernel, 'operations', operation, 'cancel']);
  }

  /** The name of a kernelspec that starts kernels out of the snapshot. */
  async publish(name: string): Promise<string> {
    const path = ['snapshots', name, 'clone'];
    return (await this.ask<{ kernelspec: string }>('POST', path)).kernelspec;
  }

  rename(name: string, to: string): Promise<ISnapshot> {
    return this.ask('PATCH', ['snapshots', name], { name: to });
  }

  delete(name: string): Promise<void> {
    return this.ask('DELETE', ['snapshots', name]);
  }

  private async ask<T>(method: string, path: string[], body?: object): Promise<T> {
    const { baseUrl } = this.settings;
    let url = URLExt.join(baseUrl, 'zerostart', 'api', ...path.map(encodeURIComponent));
    if (method === 'GET') {
      // A panel that looks on must not keep an idle server from being culled.
      url += '?no_track_activity=1';
    }
    const init = { method, body: body && JSON.stringify(body) };
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (response.status === 204) {
      return undefined as T;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      const { status, statusText } = response;
      throw new Refusal(answer.message ?? statusText, answer.remedy ?? '', status);
    }
    return answer;
  }
}
