using VirtBackup.Proofs.KillController;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new KillControllerProof(), args);
