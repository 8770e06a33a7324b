using VirtBackup.Proofs.PlanCalibration;
using VirtBackup.Testing.Proofs;

return await ProofProgram.RunAsync(new PlanCalibrationProof(), args);
