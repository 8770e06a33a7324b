using VirtBackup.Proofs.KillBackup;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new KillBackupProof(), args);
