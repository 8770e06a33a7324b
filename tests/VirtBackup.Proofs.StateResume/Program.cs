using VirtBackup.Proofs.StateResume;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new StateResumeProof(), args);
