using VirtBackup.Proofs.GuestImpact;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new GuestImpactProof(), args);
