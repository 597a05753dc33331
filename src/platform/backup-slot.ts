/** The replication slot of `remit backup`: PostgreSQL keeps its log from there on until it was received. */
export const BACKUP_SLOT = 'remit_backup';
