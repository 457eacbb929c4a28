import { LabIcon } from '@jupyterlab/ui-components';

const bolt =
  '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
  '<path class="jp-icon3 jp-icon-selectable" fill="#616161" d="M13 2 4 14h6l-1 8 9-12h-6z"/></svg>';

export const boltIcon = new LabIcon({ name: 'zerostart:bolt', svgstr: bolt });
